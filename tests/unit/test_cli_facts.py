import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.facts import Filter, decode, decode_told, describe

HASHED = {"bucket": "inbox", "key": "a/b.txt", "size": 3, "digests": {"md5": "0" * 32}}


def fact(body=HASHED, *, topic="objects.hashed.v1", headers=(), key=b"inbox/a/b.txt"):
    value = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    return decode(topic, 1, 7, timestamp_ms=1_700_000_000_000, key=key, value=value, headers=headers)


@given(
    st.none() | st.binary(),
    st.none() | st.binary(),
    st.lists(st.tuples(st.text(), st.none() | st.binary())),
    st.sampled_from(
        ["objects.changed.v1", "objects.hashed.v1", "sweeps.completed.v1", "etl.loaded.v1", "x.y.dlq", "foreign"]
    ),
)
def test_no_record_can_break_the_watch_or_play_with_the_terminal(value, key, headers, topic):
    one = fact(value, topic=topic, headers=headers, key=key)
    line = describe(one)
    json.dumps(one.document())
    assert "\x1b" not in line.subject + line.detail
    assert "\n" not in line.subject + line.detail


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_a_body_of_any_json_is_borne(body):
    for topic in (
        "objects.changed.v1",
        "objects.hashed.v1",
        "sweeps.completed.v1",
        "etl.loaded.v1",
        "etl.completed.v1",
    ):
        names = ("bucket", "key", "size", "digests", "change", "rows", "rejected", "reason", "listed")
        describe(fact(dict.fromkeys(names, body), topic=topic))


def test_the_envelope_is_part_of_the_document():
    document = fact(headers=[("ce_type", b"penstock.objects.hashed.v1"), ("ce_id", b"42")]).document()
    assert document["type"] == "objects.hashed.v1"
    assert document["id"] == "42"
    assert document["data"] == HASHED


def test_a_mismatch_is_loud():
    line = describe(fact(HASHED | {"verification": "mismatch"}))
    assert line.style == "bold red"
    assert "mismatch" in line.detail


def test_a_dead_letter_tells_why():
    line = describe(fact(b"\x00", topic="objects.changed.v1.hasher.dlq", headers=[("dlq_code", b"BAD_EVENT")]))
    assert line.word == "dead"
    assert "BAD_EVENT" in line.detail


def test_filters_hold_together():
    assert Filter().lets(fact())
    assert Filter(bucket="inbox", prefix="a/", key="a/b.txt", types=("objects",)).lets(fact())
    assert not Filter(bucket="jobs").lets(fact())
    assert not Filter(prefix="b/").lets(fact())
    assert not Filter(key="a/b").lets(fact())
    assert not Filter(types=("sweeps",)).lets(fact())


TOLD = {"seq": 7, "at": "2026-01-01T00:00:00+00:00", "bucket": "inbox", "key": "a/b.txt", "error": None}


def test_a_fact_that_an_ingress_tells_is_said_like_one_from_the_bus():
    told = decode_told({**TOLD, "type": "objects.hashed.v1", "topic": "objects.hashed.v1", "body": HASHED})
    assert describe(told) == describe(fact())


def test_a_dead_letter_that_an_ingress_tells_has_its_reason():
    letter = {"type": "dead-letters.buried.v1", "topic": "a.b.dlq", "error": "BAD: it is: bad", "body": None}
    line = describe(decode_told({**TOLD, **letter}))
    assert (line.word, line.subject, line.detail) == ("dead", "inbox/a/b.txt", "BAD: it is: bad")


def test_what_became_of_a_file_is_said_with_its_rows_and_rejects():
    body = {"bucket": "src-data", "key": "1.csv", "dataset": "users", "kind": "rows", "change": "stored"}
    line = describe(fact({**body, "rows": 3, "rejected": 1, "reason": "no name"}, topic="etl.loaded.v1"))
    assert (line.word, line.style, line.detail) == (
        "loaded",
        "yellow",
        "rows of users stored, 3 rows, 1 rejected, no name",
    )
    line = describe(fact({**body, "rows": 1}, topic="etl.loaded.v1"))
    assert (line.style, line.detail) == ("green", "rows of users stored, 1 row")


def test_a_load_is_said_with_what_it_found():
    found = {"dataset": "users", "listed": 9, "changed": 2, "removed": 1, "rows": 2, "rejected": 0}
    line = describe(fact(found, topic="etl.completed.v1", key=b"users"))
    assert (line.word, line.subject) == ("compared", "users")
    assert line.detail == "listed 9, changed 2, removed 1, rows 2, rejected 0"


@pytest.mark.parametrize("topic", ["etl.completed.v1", "etl.loaded.v1"])
def test_what_failed_is_said_to_have_failed_and_why(topic):
    line = describe(fact({"state": "failed", "error": "the disk is\non fire"}, topic=topic, key=b"users"))
    assert (line.word, line.style, line.detail) == ("failed", "bold red", "the disk is\\non fire")
