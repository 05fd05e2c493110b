import pytest

from services.cli.core.letters import (
    Choice,
    Letter,
    Place,
    body_for_people,
    by_cause,
    full_document,
    split_by_attempts,
    way_back,
)
from services.cli.core.usage import WrongUsage
from shared.errors import Rejected


def letter(offset=0, *, reason="no such object s3://inbox/a", attempts="1", body=b"{}", **told):
    says = {
        "topic": "objects.changed.v1",
        "partition": "3",
        "offset": str(offset),
        "service": "hasher",
        "kind": "rejected",
        "code": "NO_SUCH_OBJECT",
        "reason": reason,
        "attempts": attempts,
        "at": f"2026-01-01T00:00:{offset:02}+00:00",
    } | told
    headers = [("ce_id", b"42"), *((f"dlq_{name}", text.encode()) for name, text in says.items())]
    return Letter(Place("objects.changed.v1.hasher.dlq", 0, offset), b"inbox/a", body, tuple(headers))


def test_a_place_is_read_as_it_is_written():
    place = Place("objects.changed.v1.hasher.dlq", 0, 17)
    assert Place.parse(str(place)) == place


@pytest.mark.parametrize("text", ["", "x", "objects.changed.v1/0/1", "a.dlq/0", "a.dlq/0/x", "a.dlq/-1/0", "a.dlq/٣/0"])
def test_anything_else_is_no_place(text):
    with pytest.raises(WrongUsage, match="topic/partition/offset"):
        Place.parse(text)


def test_one_cause_is_one_group_whatever_the_object():
    letters = [letter(n, reason=f"no such object s3://inbox/{n}; it was removed") for n in range(3)]
    groups = by_cause([*letters, letter(9, code="BAD_EVENT", reason="not an event of objects.changed.v1: key")])
    assert [(group["code"], group["count"]) for group in groups] == [("NO_SUCH_OBJECT", 3), ("BAD_EVENT", 1)]
    assert groups[0]["example"] == str(letters[2].place)


def test_nothing_chosen_is_not_everything():
    assert Choice().is_empty
    assert not Choice(everything=True).is_empty


def test_choices_hold_together():
    assert Choice(code="NO_SUCH_OBJECT", service="hasher", reason="inbox").takes(letter())
    assert not Choice(code="NO_SUCH_OBJECT", service="ingest").takes(letter())
    assert not Choice(reason="jobs").takes(letter())
    assert Choice(Place("objects.changed.v1.hasher.dlq", 0, 0)).takes(letter())
    assert not Choice(Place("objects.changed.v1.hasher.dlq", 0, 1)).takes(letter())


def test_a_letter_goes_back_with_its_own_headers_its_count_and_to_one_service_only():
    topic, headers = way_back(letter(attempts="2"))
    assert topic == "objects.changed.v1"
    assert dict(headers) == {"ce_id": b"42", "dlq_attempts": b"2", "dlq_only": b"hasher"}


def test_a_letter_of_unknown_origin_stays():
    with pytest.raises(Rejected, match="does not say where it came from"):
        way_back(letter(topic=""))


def test_what_failed_too_often_is_held_back_unless_forced():
    often, once = letter(1, attempts="3"), letter(2)
    assert split_by_attempts([often, once], 3, force=False) == ([once], [often])
    assert split_by_attempts([often, once], 3, force=True) == ([often, once], [])


@pytest.mark.parametrize("attempts", ["", "-1", "many", "²"])
def test_a_count_that_is_none_counts_as_the_first(attempts):
    assert letter(attempts=attempts).attempts == 1


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (None, "(no body)"),
        (b"", "(empty)"),
        (b'{"a": "\\u001b[31m"}', '{\n  "a": "\\u001b[31m"\n}'),
        (b"\x1b[2J\xff", "\\x1b[2J\\xff"),
        (b"x" * 10, "xxxx\n… 6 bytes more"),
    ],
)
def test_bodies_are_safe_on_a_terminal(body, shown):
    limit = 4 if body == b"x" * 10 else 4096
    assert body_for_people(body, limit) == shown


def test_the_document_of_a_letter_has_all_of_it():
    document = full_document(letter(body=b"\xff"))
    assert document["letter"] == "objects.changed.v1.hasher.dlq/0/0"
    assert document["origin_partition"] == "3"
    assert document["headers"]["ce_id"] == "42"
    assert document["body"] == "\\xff"
