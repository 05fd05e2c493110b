import json
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.facts import FactFilter, decode, decode_rendered, describe
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
def test_no_record_raises_or_sends_control_characters_to_the_terminal(value, key, headers, topic):
    one = fact(value, topic=topic, headers=headers, key=key)
    line = describe(one)
    json.dumps(one.document())
    assert "\x1b" not in line.subject + line.detail
    assert "\n" not in line.subject + line.detail


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_body_of_any_json_is_described(body):
    for topic in (
        "objects.changed.v1",
        "objects.hashed.v1",
        "sweeps.completed.v1",
        "etl.loaded.v1",
        "etl.completed.v1",
    ):
        names = ("bucket", "key", "size", "digests", "change", "rows", "rejected", "reason", "listed")
        describe(fact(dict.fromkeys(names, body), topic=topic))


def test_document_contains_the_envelope():
    document = fact(headers=[("ce_type", b"penstock.objects.hashed.v1"), ("ce_id", b"42")]).document()
    assert document["type"] == "objects.hashed.v1"
    assert document["id"] == "42"
    assert document["data"] == HASHED


def test_mismatch_is_bold_red():
    line = describe(fact(HASHED | {"verification": "mismatch"}))
    assert line.style == "bold red"
    assert "not as declared" in line.detail


def test_dead_letter_shows_its_code():
    line = describe(fact(b"\x00", topic="objects.changed.v1.hasher.dlq", headers=[("dlq_code", b"BAD_EVENT")]))
    assert line.word == "dead"
    assert "BAD_EVENT" in line.detail


def test_fact_matches_only_if_all_conditions_do():
    assert FactFilter().matches(fact())
    assert FactFilter(bucket="inbox", prefix="a/", key="a/b.txt", types=("objects",)).matches(fact())
    assert not FactFilter(bucket="jobs").matches(fact())
    assert not FactFilter(prefix="b/").matches(fact())
    assert not FactFilter(key="a/b").matches(fact())
    assert not FactFilter(types=("sweeps",)).matches(fact())


RENDERED = {"seq": 7, "at": "2026-01-01T00:00:00+00:00", "bucket": "inbox", "key": "a/b.txt", "error": None}


def test_fact_rendered_by_an_ingress_is_described_like_one_from_the_bus():
    fact_of_ingress = decode_rendered(
        {**RENDERED, "type": "objects.hashed.v1", "topic": "objects.hashed.v1", "body": HASHED}
    )
    assert describe(fact_of_ingress) == describe(fact())


def test_dead_letter_rendered_by_an_ingress_has_its_reason():
    dead_letter = {"type": "dead-letters.buried.v1", "topic": "a.b.dlq", "error": "BAD: it is: bad", "body": None}
    line = describe(decode_rendered({**RENDERED, **dead_letter}))
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
