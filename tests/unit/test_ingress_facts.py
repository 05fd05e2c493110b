"""Whatever stands on a topic becomes a fact that can be kept and shown, or is none for a reason."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.access import ROOT, Principal
from services.ingress.core.fact_filter import FactFilter, is_visible_to, parse_types
from services.ingress.core.fact_rendering import render_fact, render_heartbeat, render_sse_event, summarize
from services.ingress.core.facts import DEAD_LETTERED, Fact, UndecodableRecord, decode_fact
from services.ingress.core.sanitize import MAX_BODY_BYTES
from services.ingress.handlers import TOPICS
from shared.cloud_events import headers_for
from shared.errors import Rejected
from shared.events import DeadLetterSettled, ObjectChanged, ObjectHashed, SweepCompleted
from shared.middleware.dead_letter import dead_letter_headers
from shared.testing.bus import record

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LETTERS = "objects.changed.v1.hasher.dlq"
STORED = ObjectChanged(bucket="inbox", key="a b/ü", change="stored", size=5, etag="e", correlation_id="c" * 32)
NOBODY = Principal("t", "t", frozenset({"read"}), ("inbox/mine/",))


def on_the_wire(event, source="ingest", topic=None):
    headers = [(name, value.encode()) for name, value in headers_for(event, source=source).items()]
    body = event.model_dump_json(exclude_none=True).encode()
    return record(topic or event.topic.name, body, key=event.record_key.encode(), headers=headers)


def a_fact(**changes):
    made = {"topic": "t", "partition": 0, "offset": 0, "event_id": "e", "type": "objects.changed.v1", "at": AT}
    return Fact(**{**made, "bucket": "inbox", "key": "mine/a", **changes})


def test_fact_holds_the_fields_of_its_event():
    fact = decode_fact(on_the_wire(STORED))
    assert (fact.event_id, fact.type, fact.service) == (STORED.event_id, "objects.changed.v1", "ingest")
    assert (fact.bucket, fact.key, fact.correlation_id) == ("inbox", "a b/ü", "c" * 32)
    assert (datetime.now(UTC) - fact.at).total_seconds() < 60
    assert fact.body["size"] == 5


def test_event_of_a_later_version_with_more_fields_is_a_fact_too():
    value = json.dumps({"bucket": "b", "key": "k", "new": {"deep": [1]}, "change": "moved"}).encode()
    fact = decode_fact(record("objects.changed.v2", value, headers=[("ce_type", b"penstock.objects.changed.v2")]))
    assert (fact.type, fact.bucket, fact.body["new"]) == ("objects.changed.v2", "b", {"deep": [1]})


def test_dead_letter_fact_names_object_and_reason():
    origin = on_the_wire(STORED)
    headers = dead_letter_headers(origin, "hasher", Rejected("WRONG", "no such column"))
    letter = record(LETTERS, origin.value, key=origin.key, headers=[(n, v.encode()) for n, v in headers.items()])
    fact = decode_fact(letter)
    assert (fact.type, fact.service, fact.error) == (DEAD_LETTERED, "hasher", "WRONG: no such column")
    assert (fact.bucket, fact.key, fact.correlation_id) == ("inbox", "a b/ü", "c" * 32)
    assert fact.event_id == f"0/{letter.offset}"
    assert summarize(fact) == "dead-lettered by hasher: WRONG: no such column"


def test_dead_letter_with_unreadable_body_names_object_by_record_key():
    fact = decode_fact(record(LETTERS, b"\x00\xff", key="inbox/a/ü".encode()))
    assert (fact.bucket, fact.key, fact.body) == ("inbox", "a/ü", {"text": "\ufffd\ufffd", "bytes": 2})
    assert decode_fact(record(LETTERS, None, key=b"inbox/a")).body is None


def test_settled_fact_references_the_dead_letter():
    settled = DeadLetterSettled(dlq_topic=LETTERS, partition=0, offset=7, action="replayed", at=AT)
    fact = decode_fact(on_the_wire(settled, "cli"))
    assert (fact.resolved_dead_letter, fact.bucket) == ((LETTERS, "0/7"), None)
    assert summarize(fact) == f"replayed: dead letter of {LETTERS}"
    assert a_fact().resolved_dead_letter is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "empty"), (b"", "empty"), (b"{", "not_json"), (b"\xff", "not_json"), (b"[" * 99_999, "not_json")],
)
def test_record_that_is_no_event_is_undecodable(value, reason):
    with pytest.raises(UndecodableRecord, match=reason):
        decode_fact(record("objects.changed.v1", value))


def test_event_id_falls_back_to_position_and_long_ids_are_hashed():
    first, second = (decode_fact(record("t", b"{}", headers=[("ce_id", b"x" * 500 + tail)])) for tail in (b"1", b"2"))
    assert first.event_id != second.event_id
    assert len(first.event_id) == 32
    plain = record("t", b"{}")
    assert decode_fact(plain).event_id == f"0/{plain.offset}"


def test_large_body_is_cut_with_its_size():
    body = json.dumps({"bucket": "b", "key": "k", "note": "x" * 900_000}).encode()
    fact = decode_fact(record("t", body))
    assert (fact.bucket, fact.body["bytes"], len(fact.body["cut"])) == ("b", len(body), MAX_BODY_BYTES)
    letter = decode_fact(record(LETTERS, b"\x00" * 900_000))
    assert len(json.dumps(letter.body)) < 10 * MAX_BODY_BYTES


@pytest.mark.parametrize(
    "said", [b"", b"9999-99", b"tomorrow", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59"]
)
def test_time_that_is_none_is_when_the_record_was_written(said):
    assert decode_fact(record("t", b"{}", headers=[("ce_time", said)])).at == datetime.fromtimestamp(0, UTC)


names = st.sampled_from(
    ["ce_id", "ce_type", "ce_source", "ce_time", "correlation_id", "dlq_at", "dlq_code", "dlq_reason", "dlq_service"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["bucket", "key", "correlation_id", "\x00"]), inner)
    ),
)
values = st.none() | st.binary() | trees.map(lambda tree: json.dumps(tree).encode())


@given(
    topic=st.sampled_from([topic.name for topic in TOPICS]),
    value=values,
    key=st.none() | st.binary(max_size=50),
    headers=st.lists(st.tuples(names, st.none() | st.binary(max_size=300)), max_size=9),
)
def test_any_record_gives_a_storable_fact_or_a_reason(topic, value, key, headers):
    try:
        fact = decode_fact(record(topic, value, key=key, headers=headers))
    except UndecodableRecord:
        return
    texts = [
        fact.event_id,
        fact.type,
        fact.service,
        fact.bucket or "",
        fact.key or "",
        fact.correlation_id,
        fact.error or "",
    ]
    body = json.dumps(fact.body, allow_nan=False)
    assert not any("\n" in text for text in texts[:3])
    for text in [*texts, json.dumps(json.loads(body), ensure_ascii=False)]:
        assert "\x00" not in text
        text.encode()  # no half of a character
    assert "\\u0000" not in body
    assert fact.at.tzinfo is UTC
    lines = render_sse_event(fact).split("\n")
    assert [line.partition(":")[0] for line in lines] == ["id", "event", "data", "", ""]
    assert json.loads(lines[2].removeprefix("data: ")) == json.loads(json.dumps(render_fact(fact)))


def test_sse_event_is_readable_by_browsers():
    body = {"bucket": "inbox", "key": "mine/a", "change": "stored", "size": 3, "text": "a\nb\u2028"}
    fact = a_fact(seq=7, body=body)
    head, event, data, *end = render_sse_event(fact).split("\n")
    assert (head, event, end) == ("id: 7", "event: objects.changed.v1", ["", ""])
    assert json.loads(data.removeprefix("data: "))["summary"] == "stored, 3 bytes"
    assert render_heartbeat(7) == ": alive\nid: 7\n\n"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (STORED, "stored, 5 bytes"),
        (STORED.model_copy(update={"change": "removed"}), "removed"),
        (ObjectHashed(bucket="b", key="k", digests={"md5": "1", "sha256": "2"}), "hashed: md5, sha256"),
        (
            ObjectHashed(bucket="b", key="k", digests={"md5": "1"}, verification="mismatch"),
            "hashed: md5; not as declared",
        ),
        (
            SweepCompleted(sweep_id="s", buckets=("b",), listed=9, missed=1, vanished=2, seconds=1),
            "swept: 1 missed and 2 vanished of 9",
        ),
    ],
)
def test_known_fact_types_are_summarized(event, said):
    assert summarize(decode_fact(on_the_wire(event))) == said


@pytest.mark.parametrize("body", [None, [], 7, {"digests": 3}, {"state": "running"}, {"change": None}])
@pytest.mark.parametrize("kind", ["objects.changed.v1", "objects.hashed.v1", "runs.changed.v1", DEAD_LETTERED])
def test_unexpected_body_is_summarized(kind, body):
    assert summarize(a_fact(type=kind, body=body))


def test_unknown_fact_type_is_summarized_by_its_state():
    assert summarize(a_fact(type="runs.changed.v1", body={"state": "running"})) == "runs.changed.v1: running"


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (FactFilter(), True),
        (FactFilter(types=("objects.*",)), True),
        (FactFilter(types=("objects.hashed.v1", "objects.changed.v1")), True),
        (FactFilter(types=("objects.hashed.*",)), False),
        (FactFilter(types=("OBJECTS.*",)), False),
        (FactFilter(bucket="inbox", prefix="mine/"), True),
        (FactFilter(bucket="jobs"), False),
        (FactFilter(prefix="ine/"), False),
        (FactFilter(correlation_id="c"), True),
        (FactFilter(correlation_id="d"), False),
    ],
)
def test_facts_are_chosen(wanted, takes):
    assert wanted.matches(a_fact(correlation_id="c")) is takes


def test_types_are_given_one_by_one_or_apart_by_commas():
    assert parse_types(["penstock.objects.*, a", "b,,a"]) == ("objects.*", "a", "b")
    assert not FactFilter(parse_types(["[a-z]*"])).matches(a_fact())


@pytest.mark.parametrize(
    ("who", "place", "shown"),
    [
        (ROOT, ("inbox", "a"), True),
        (ROOT, (None, None), True),
        (NOBODY, ("inbox", "mine/a"), True),
        (NOBODY, ("inbox", "a"), False),
        (NOBODY, ("jobs", "mine/a"), False),
        (NOBODY, (None, None), False),
    ],
)
def test_fact_outside_the_prefixes_is_not_visible(who, place, shown):
    assert is_visible_to(who, a_fact(bucket=place[0], key=place[1])) is shown
