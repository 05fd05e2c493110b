"""Events: frozen, bound to a topic, with an id that depends on nothing but what they are about."""

import pytest
from pydantic import ValidationError

from shared.events import EVENTS, ObjectChanged, ObjectHashed, SweepRequested, stable_id

STORED = ObjectChanged(change="stored", bucket="inbox", key="a", etag="e", size=5, sequencer="1", correlation_id="c")
HASHED = ObjectHashed(bucket="inbox", key="a", etag="e", size=5, digests={"md5": "1", "sha256": "2"}, revision=7)


def test_an_event_cannot_be_changed():
    with pytest.raises(ValidationError):
        STORED.key = "b"


def test_who_saw_a_change_and_when_it_became_known_is_not_what_it_is():
    assert STORED.model_copy(update={"seen_by": "safe", "revision": 9}).event_id == STORED.event_id


@pytest.mark.parametrize(
    "other", [{"key": "b"}, {"bucket": "jobs"}, {"change": "removed"}, {"etag": "f"}, {"sequencer": "2"}]
)
def test_another_change_is_another_event(other):
    assert STORED.model_copy(update=other).event_id != STORED.event_id


def test_the_same_digests_are_the_same_fact_in_any_order_and_more_of_them_are_another():
    turned = HASHED.model_copy(update={"digests": {"sha256": "2", "md5": "1"}})
    assert turned.event_id == HASHED.event_id
    assert HASHED.model_copy(update={"digests": {"md5": "1"}}).event_id != HASHED.event_id


def test_records_of_one_object_have_one_key_whatever_happened_to_it():
    assert STORED.record_key == HASHED.record_key == "inbox/a"


def test_parts_of_an_id_do_not_run_together():
    assert stable_id("a", "bc") != stable_id("ab", "c")
    assert stable_id(None, "a") == stable_id("", "a")
    assert len(stable_id()) == 32


def test_an_id_is_the_same_tomorrow():
    assert SweepRequested(sweep_id="s").event_id == "6606be618cb6217f9ee8b1122660f93f"


def test_a_reader_ignores_what_it_does_not_know():
    assert ObjectChanged.model_validate_json('{"bucket": "b", "key": "k", "change": "stored", "new": 1}').key == "k"


def test_an_event_follows_what_caused_it():
    assert HASHED.caused_by(STORED).correlation_id == "c"


@pytest.mark.parametrize("kind", EVENTS)
def test_every_event_has_a_versioned_type(kind):
    assert kind.type_name().startswith("penstock.")
    assert kind.topic.name.rpartition(".v")[2].isdigit()
