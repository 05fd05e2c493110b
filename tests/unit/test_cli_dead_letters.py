import pytest

from services.cli.core.dead_letters import (
    DeadLetter,
    RecordPosition,
    Selection,
    format_body,
    full_document,
    group_by_cause,
    replay_target,
    split_by_attempts,
)
from services.cli.core.usage import UsageError
from shared.errors import Rejected


def dead_letter(offset=0, *, reason="no such object s3://inbox/a", attempts="1", body=b"{}", **changes):
    reasons = {
        "topic": "objects.changed.v1",
        "partition": "3",
        "offset": str(offset),
        "service": "hasher",
        "kind": "rejected",
        "code": "NO_SUCH_OBJECT",
        "reason": reason,
        "attempts": attempts,
        "at": f"2026-01-01T00:00:{offset:02}+00:00",
    } | changes
    headers = [("ce_id", b"42"), *((f"dlq_{name}", text.encode()) for name, text in reasons.items())]
    return DeadLetter(RecordPosition("objects.changed.v1.hasher.dlq", 0, offset), b"inbox/a", body, tuple(headers))


def test_parse_reads_the_text_of_a_position():
    position = RecordPosition("objects.changed.v1.hasher.dlq", 0, 17)
    assert RecordPosition.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "x", "objects.changed.v1/0/1", "a.dlq/0", "a.dlq/0/x", "a.dlq/-1/0", "a.dlq/٣/0"])
def test_parse_rejects_other_forms(text):
    with pytest.raises(UsageError, match="topic/partition/offset"):
        RecordPosition.parse(text)


def test_dead_letters_of_one_cause_are_one_group():
    dead_letters = [dead_letter(n, reason=f"no such object s3://inbox/{n}; it was removed") for n in range(3)]
    groups = group_by_cause(
        [*dead_letters, dead_letter(9, code="BAD_EVENT", reason="not an event of objects.changed.v1: key")]
    )
    assert [(group["code"], group["count"]) for group in groups] == [("NO_SUCH_OBJECT", 3), ("BAD_EVENT", 1)]
    assert groups[0]["example"] == str(dead_letters[2].position)


def test_empty_selection_is_not_everything():
    assert Selection().is_empty
    assert not Selection(everything=True).is_empty


def test_selection_matches_only_if_all_conditions_do():
    assert Selection(code="NO_SUCH_OBJECT", service="hasher", reason="inbox").matches(dead_letter())
    assert not Selection(code="NO_SUCH_OBJECT", service="ingest").matches(dead_letter())
    assert not Selection(reason="jobs").matches(dead_letter())
    assert Selection(RecordPosition("objects.changed.v1.hasher.dlq", 0, 0)).matches(dead_letter())
    assert not Selection(RecordPosition("objects.changed.v1.hasher.dlq", 0, 1)).matches(dead_letter())


def test_replay_keeps_own_headers_and_names_attempts_and_service():
    topic, headers = replay_target(dead_letter(attempts="2"))
    assert topic == "objects.changed.v1"
    assert dict(headers) == {"ce_id": b"42", "dlq_attempts": b"2", "dlq_only": b"hasher"}


def test_dead_letter_without_origin_cannot_be_replayed():
    with pytest.raises(Rejected, match="does not name the topic and service"):
        replay_target(dead_letter(topic=""))


def test_max_attempts_holds_back_unless_forced():
    often, once = dead_letter(1, attempts="3"), dead_letter(2)
    assert split_by_attempts([often, once], 3, force=False) == ([once], [often])
    assert split_by_attempts([often, once], 3, force=True) == ([often, once], [])


@pytest.mark.parametrize("attempts", ["", "-1", "many", "²"])
def test_invalid_attempts_count_as_one(attempts):
    assert dead_letter(attempts=attempts).attempts == 1


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (None, "(no body)"),
        (b"", "(empty)"),
        (b'{"a": "\\u001b[31m"}', '{\n  "a": "\\u001b[31m"\n}'),
        (b"\x1b[2J\xff", "\\x1b[2J\\xff"),
        (b"x" * 10, "xxxx\n… 6 more bytes"),
    ],
)
def test_format_body_is_safe_on_a_terminal(body, shown):
    limit = 4 if body == b"x" * 10 else 4096
    assert format_body(body, limit) == shown


def test_full_document_has_position_origin_headers_and_body():
    document = full_document(dead_letter(body=b"\xff"))
    assert document["id"] == document["letter"] == "objects.changed.v1.hasher.dlq/0/0"
    assert document["origin_partition"] == "3"
    assert document["headers"]["ce_id"] == "42"
    assert document["body"] == "\\xff"
