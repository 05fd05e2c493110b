"""Conditional requests, as RFC 9110 orders them."""

from datetime import UTC, datetime

import pytest

from services.ingress.core.conditions import Precondition, Validators
from services.ingress.core.problems import HttpProblem
from shared.errors import Rejected
from shared.object_headers import ABSENT, PRESENT

MINE = Validators("abc-2", datetime(2026, 5, 4, 3, 2, 1, 999_000, UTC))
THEN, BEFORE = "Mon, 04 May 2026 03:02:01 GMT", "Mon, 04 May 2026 03:02:00 GMT"


def test_last_modified_is_rendered_in_whole_seconds():
    assert MINE.headers == {"etag": '"abc-2"', "last-modified": THEN}


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, "send"),
        ({"if-match": '"abc-2"'}, "send"),
        ({"if-match": "*"}, "send"),
        ({"if-match": '"x", "abc-2"'}, "send"),
        ({"if-match": '"x"'}, "failed"),
        ({"if-match": 'W/"abc-2"'}, "failed"),
        ({"if-unmodified-since": THEN}, "send"),
        ({"if-unmodified-since": BEFORE}, "failed"),
        ({"if-match": '"abc-2"', "if-unmodified-since": BEFORE}, "send"),
        ({"if-none-match": '"abc-2"'}, "not_modified"),
        ({"if-none-match": 'W/"abc-2"'}, "not_modified"),
        ({"if-none-match": "*"}, "not_modified"),
        ({"if-none-match": '"x"'}, "send"),
        ({"if-none-match": "abc-2"}, "send"),
        ({"if-modified-since": THEN}, "not_modified"),
        ({"if-modified-since": BEFORE}, "send"),
        ({"if-modified-since": "no date"}, "send"),
        ({"if-none-match": '"x"', "if-modified-since": THEN}, "send"),
        ({"if-match": '"x"', "if-none-match": '"abc-2"'}, "failed"),
    ],
)
def test_conditional_get_sends_only_what_the_client_lacks(asked, status):
    assert MINE.decide_read(asked) == status


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ({}, True),
        ({"if-range": '"abc-2"'}, True),
        ({"if-range": 'W/"abc-2"'}, False),
        ({"if-range": '"x"'}, False),
        ({"if-range": THEN}, True),
        ({"if-range": BEFORE}, False),
        ({"if-range": "neither"}, False),
    ],
)
def test_if_range_resumes_the_same_version_only(asked, allowed):
    assert MINE.allow_range(asked) is allowed


THERE = Validators("abc", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC))
WRITES = [
    ({}, THERE, None),
    ({}, None, None),
    ({"if-match": '"abc"'}, THERE, "abc"),
    ({"if-match": "abc"}, THERE, "abc"),
    ({"if-match": '"x" , "abc"'}, THERE, "abc"),
    ({"if-match": '"a,b","abc"'}, THERE, "abc"),
    ({"if-match": "*"}, THERE, PRESENT),
    ({"if-match": " * "}, THERE, PRESENT),
    ({"if-none-match": "*"}, None, ABSENT),
    ({"if-none-match": '"x"'}, THERE, "abc"),
    ({"if-none-match": '"x"'}, None, ABSENT),
    ({"if-match": '"abc"', "if-none-match": '"x"'}, THERE, "abc"),
    ({"if-unmodified-since": "Mon, 06 May 2024 07:08:09 GMT"}, THERE, "abc"),
    ({"if-unmodified-since": "Mon, 06 May 2024 07:08:09 GMT"}, None, ABSENT),
    ({"if-match": '"abc"', "if-unmodified-since": "Sun, 05 May 2024 07:08:09 GMT"}, THERE, "abc"),
]


@pytest.mark.parametrize(("headers", "found", "required"), WRITES)
def test_satisfied_precondition_returns_the_required_etag(headers, found, required):
    assert Precondition.parse(headers).require_match(found) == required


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"if-match": '"x"'}, THERE),
        ({"if-match": 'W/"abc"'}, THERE),
        ({"if-match": '"x", W/"abc"'}, THERE),
        ({"if-match": '"ABC"'}, THERE),
        ({"if-match": '"abc"'}, None),
        ({"if-match": "*"}, None),
        ({"if-match": "*", "if-none-match": "*"}, THERE),
        ({"if-none-match": "*"}, THERE),
        ({"if-none-match": '"abc"'}, THERE),
        ({"if-none-match": 'W/"abc"'}, THERE),
        ({"if-none-match": '"x", "abc"'}, THERE),
        ({"if-none-match": "abc"}, THERE),
        ({"if-match": '"abc"', "if-none-match": '"abc"'}, THERE),
        ({"if-unmodified-since": "Mon, 06 May 2024 07:08:08 GMT"}, THERE),
    ],
)
def test_condition_that_does_not_hold_is_refused(headers, found):
    with pytest.raises(HttpProblem) as refused:
        Precondition.parse(headers).require_match(found)
    assert refused.value.code == "SUPERSEDED"


@pytest.mark.parametrize(
    "headers",
    [
        {"if-match": ""},
        {"if-match": '"abc'},
        {"if-match": 'W/ "abc"'},
        {"if-match": '"abc" "x"'},
        {"if-none-match": '"x", *'},
        {"if-none-match": ","},
        {"if-unmodified-since": "yesterday"},
    ],
)
def test_condition_that_cannot_be_read_is_refused(headers):
    with pytest.raises(Rejected) as refused:
        Precondition.parse(headers)
    assert refused.value.code == "BAD_CONDITION"
