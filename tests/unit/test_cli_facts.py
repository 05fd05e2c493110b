import json
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.facts import Filter, decode, decode_told, describe
from shared.events import EtlCompleted, EtlLoaded, ObjectChanged, SweepRequested

ROWS = EtlLoaded(
    bucket="src", key="1.csv", dataset="users", kind="rows", change="stored", rows=3, rejected=1, reason="no name"
)
LOAD = EtlCompleted(
    load_id="l", dataset="users", listed=9, changed=2, removed=1, rows=2, rejected=0, outputs=(), seconds=1
)
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
    assert "not as declared" in line.detail


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


def on_topic(event):
    return fact(event.model_dump(mode="json"), topic=type(event).topic.name, key=event.record_key.encode())


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ObjectChanged(bucket="b", key="k", change="stored", size=3), ("stored", "green", "b/k", "3 bytes")),
        (ObjectChanged(bucket="b", key="k", change="removed"), ("removed", "yellow", "b/k", "")),
        (ROWS, ("loaded", "yellow", "src/1.csv", "rows of users stored, 3 rows, 1 rejected: no name")),
        (ROWS.model_copy(update={"rejected": 0, "reason": ""}), ("loaded", "green", "src/1.csv", ANY)),
        (LOAD, ("compared", "cyan", "users", "2 changed and 1 removed of 9, 2 rows")),
        (
            LOAD.model_copy(update={"state": "failed", "error": "the disk is\non fire"}),
            ("failed", "bold red", "users", "the disk is\\non fire"),
        ),
        (SweepRequested(sweep_id="s"), ("requested", "cyan", "s", "")),
    ],
)
def test_line_begins_with_the_outcome_and_shows_the_rest_of_the_summary(event, line):
    shown = describe(on_topic(event))
    assert (shown.word, shown.style, shown.subject, shown.detail) == line
