"""Conditional requests, as RFC 9110 orders them."""

from datetime import UTC, datetime

import pytest

from services.ingress.core.conditions import Validators

MINE = Validators("abc-2", datetime(2026, 5, 4, 3, 2, 1, 999_000, UTC))
THEN, BEFORE = "Mon, 04 May 2026 03:02:01 GMT", "Mon, 04 May 2026 03:02:00 GMT"


def test_they_are_told_in_whole_seconds():
    assert MINE.headers == {"etag": '"abc-2"', "last-modified": THEN}


@pytest.mark.parametrize(
    ("asked", "verdict"),
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
def test_a_client_gets_what_it_lacks(asked, verdict):
    assert MINE.judge(asked) == verdict


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
def test_a_range_goes_on_with_the_version_that_it_began_with(asked, allowed):
    assert MINE.allow_range(asked) is allowed
