"""Events are frozen, bound to a topic, and have deterministic ids."""

import pytest
from pydantic import ValidationError

from shared.events import EVENTS, ObjectChanged, ObjectHashed, SweepRequested, stable_id

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


@pytest.mark.parametrize("kind", EVENTS)
def test_every_event_has_a_versioned_type(kind):
    assert kind.type_name().startswith("penstock.")
    assert kind.topic.name.rpartition(".v")[2].isdigit()
