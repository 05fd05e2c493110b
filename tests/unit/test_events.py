"""Events are frozen, bound to a topic, and have deterministic ids."""

import pytest
from pydantic import ValidationError

from services import catalogue
from shared.events import (
    DeadLetterSettled,
    EtlCompleted,
    EtlLoaded,
    ObjectChanged,
    ObjectHashed,
    SweepCompleted,
    SweepRequested,
    event_of,
    stable_id,
)

STORED = ObjectChanged(change="stored", bucket="inbox", key="a", etag="e", size=5, sequencer="1", correlation_id="c")
HASHED = ObjectHashed(bucket="inbox", key="a", etag="e", size=5, digests={"md5": "1", "sha256": "2"}, revision=7)


def test_event_is_immutable():
    with pytest.raises(ValidationError):
        STORED.key = "b"


def test_event_id_ignores_seen_by_and_revision():
    assert STORED.model_copy(update={"seen_by": "safe", "revision": 9}).event_id == STORED.event_id


@pytest.mark.parametrize(
    "other", [{"key": "b"}, {"bucket": "jobs"}, {"change": "removed"}, {"etag": "f"}, {"sequencer": "2"}]
)
def test_event_id_differs_for_another_change(other):
    assert STORED.model_copy(update=other).event_id != STORED.event_id


def test_event_id_of_digests_ignores_order_and_changes_with_more_algorithms():
    turned = HASHED.model_copy(update={"digests": {"sha256": "2", "md5": "1"}})
    assert turned.event_id == HASHED.event_id
    assert HASHED.model_copy(update={"digests": {"md5": "1"}}).event_id != HASHED.event_id


def test_all_events_of_one_object_have_the_same_record_key():
    assert STORED.record_key == HASHED.record_key == "inbox/a"


def test_stable_id_separates_its_parts():
    assert stable_id("a", "bc") != stable_id("ab", "c")
    assert stable_id(None, "a") == stable_id("", "a")
    assert len(stable_id()) == 32


def test_stable_id_has_a_known_value():
    assert SweepRequested(sweep_id="s").event_id == "6606be618cb6217f9ee8b1122660f93f"


def test_decode_ignores_unknown_fields():
    assert ObjectChanged.model_validate_json('{"bucket": "b", "key": "k", "change": "stored", "new": 1}').key == "k"


def test_caused_by_copies_the_correlation_id():
    assert HASHED.caused_by(STORED).correlation_id == "c"


@pytest.mark.parametrize("kind", catalogue.manifests().events)
def test_every_event_has_a_versioned_type(kind):
    assert kind.type_name().startswith("penstock.")
    assert kind.topic.name.rpartition(".v")[2].isdigit()


LOADED = EtlLoaded(bucket="src", key="1.csv", dataset="users", kind="rows", change="stored", rows=1, reason="no name")
LOAD = EtlCompleted(
    load_id="l", dataset="users", listed=9, changed=2, removed=1, rows=1200, rejected=3, outputs=(), seconds=1
)
SWEPT = SweepCompleted(sweep_id="s", buckets=("b",), listed=9, missed=1, vanished=2, seconds=1)
SETTLED = DeadLetterSettled(
    dlq_topic="objects.changed.v1.hasher.dlq", partition=0, offset=1, action="replayed", at="2026-01-01T00:00:00Z"
)


@pytest.mark.parametrize(
    ("event", "text", "severity"),
    [
        (STORED, "stored, 5 bytes", "info"),
        (STORED.model_copy(update={"seen_by": "sweep"}), "stored, 5 bytes, found by a sweep", "info"),
        (STORED.model_copy(update={"change": "removed", "size": None}), "removed", "info"),
        (HASHED, "hashed: md5, sha256", "info"),
        (HASHED.model_copy(update={"verification": "mismatch"}), "hashed: md5, sha256; not as declared", "error"),
        (SweepRequested(sweep_id="s"), "requested", "info"),
        (SWEPT, "swept: 1 missed and 2 vanished of 9", "info"),
        (LOADED, "loaded: rows of users stored, 1 row: no name", "warning"),
        (LOADED.model_copy(update={"error": "no such column"}), "failed: no such column", "error"),
        (LOAD, "compared: 2 changed and 1 removed of 9, 1,200 rows, 3 rejected", "info"),
        (LOAD.model_copy(update={"state": "failed", "error": "no bucket"}), "failed: no bucket", "error"),
        (SETTLED, "replayed: dead letter of objects.changed.v1.hasher.dlq", "info"),
    ],
)
def test_summary_begins_with_the_outcome(event, text, severity):
    assert (event.summary(), event.severity) == (text, severity)
    assert text.startswith(event.outcome)
    assert event_of(type(event).topic.name, event.model_dump(mode="json")) == event


@pytest.mark.parametrize("body", [None, [], {"bucket": "b"}, {"bucket": "b", "key": "k", "change": "moved"}])
def test_no_event_has_an_invalid_body_or_an_unknown_topic(body):
    assert event_of("objects.changed.v1", body) is None
    assert event_of("runs.changed.v1", body) is None
