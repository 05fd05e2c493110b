"""Decisions from the known object, the notification and the bucket's current state."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.decisions import (
    CurrentState,
    Decision,
    KnownObject,
    decide_all,
    decide_from_known,
    decide_with_bucket,
    known_after,
    sequencer_order,
)
from shared.events import ObjectChanged

NOW = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
KEY = ("inbox", "a")
sequencers = st.text("0123456789ABCDEFabcdef", min_size=1, max_size=32)


def stored(etag="A", sequencer="5", version=None, **more):
    return ObjectChanged(
        change="stored",
        bucket="inbox",
        key="a",
        etag=etag,
        size=1,
        sequencer=sequencer,
        version_id=version,
        occurred_at=NOW,
        correlation_id=f"born-{etag}-{sequencer}",
        **more,
    )


def removed(sequencer="6", version=None):
    return ObjectChanged(
        change="removed", bucket="inbox", key="a", sequencer=sequencer, version_id=version, occurred_at=NOW
    )


def known(state="stored", etag="A", sequencer="5", version=None):
    return KnownObject(state, version, etag, sequencer, 100, "born")


def current(etag="A", at=NOW, version=None):
    return CurrentState(etag, at, version)


@given(sequencers, sequencers)
def test_sequencers_compare_as_if_the_shorter_were_padded_on_the_right(one, other):
    width = max(len(one), len(other))
    padded = [each.upper().ljust(width, "0") for each in (one, other)]
    assert (sequencer_order(one) < sequencer_order(other)) == (padded[0] < padded[1])
    assert (sequencer_order(one) == sequencer_order(other)) == (padded[0] == padded[1])


@given(st.lists(sequencers, min_size=2, max_size=8))
def test_sequencer_order_is_total(many):
    ranked = sorted(many, key=sequencer_order)
    assert all(sequencer_order(one) <= sequencer_order(other) for one, other in pairwise(ranked))


@given(sequencers)
def test_equal_sequencers_are_one_event_in_any_case_and_padding(sequencer):
    previous = known(sequencer=sequencer.lower() + "00")
    assert decide_from_known(previous, stored(etag="other", sequencer=sequencer.upper())) is Decision.DUPLICATE


@given(sequencers, sequencers)
def test_older_event_never_replaces_a_state_that_the_bucket_confirms(one, other):
    older, newer = sorted((one, other), key=sequencer_order)
    decision = decide_with_bucket(known(etag="A", sequencer=newer), stored("B", older), current("A"))
    assert decision is Decision.STALE


@pytest.mark.parametrize(
    ("previous", "notification", "decision"),
    [
        (None, stored(), None),
        (known(), stored(), Decision.DUPLICATE),
        (known(), stored(sequencer="6"), None),
        (known(sequencer=None), stored(), Decision.ADOPT_SEQUENCER),
        (known(sequencer=None), stored("B"), None),
        (known(), stored(sequencer=None), Decision.DUPLICATE),
        (known("removed", None, None), removed(), Decision.ADOPT_SEQUENCER),
        (known(sequencer=None, version="v1"), stored(version="v2"), None),
    ],
)
def test_known_object_alone_decides_only_on_published_events(previous, notification, decision):
    assert decide_from_known(previous, notification) is decision


@pytest.mark.parametrize(
    ("previous", "notification", "state", "decision"),
    [
        (None, stored(), current(), Decision.PUBLISH),
        (None, stored("A"), current("B"), Decision.PUBLISH),
        (None, stored(), None, Decision.VERIFY_LATER),
        (None, removed(), None, Decision.SAVE_UNPUBLISHED),
        (known(), stored("B", "6"), current("B"), Decision.PUBLISH),
        (known(), stored("B", "4"), current("A"), Decision.STALE),
        (known(), stored("B", "4"), current("B"), Decision.PUBLISH),
        (known(), stored("B", "4"), None, Decision.STALE),
        (known(), removed("4"), current(), Decision.STALE),
        (known(), removed("4"), None, Decision.PUBLISH),
        (known(), removed("6"), current(at=NOW.replace(microsecond=0)), Decision.STALE),
        (known(), removed("6"), current(at=NOW - timedelta(seconds=2)), Decision.REJECT),
        (known("removed", None, "6"), removed("7"), None, Decision.ADOPT_SEQUENCER),
        (known("removed", None, "6"), stored(), None, Decision.STALE),
        (known("removed", None, "6"), stored(), current(), Decision.PUBLISH),
        (known(version="v2"), stored("A", "4", "v1"), current(version="v2"), Decision.STALE),
        (known(version="v1", sequencer=None), stored("A", "5", "v2"), current(version="v2"), Decision.PUBLISH),
    ],
)
def test_bucket_decides_what_the_known_object_does_not(previous, notification, state, decision):
    assert decide_with_bucket(previous, notification, state) is decision


@pytest.mark.parametrize("sequencer", [None, "4", "5"])
def test_known_after_keeps_the_highest_sequencer(sequencer):
    assert known_after(known(sequencer="5"), removed(sequencer)).sequencer == "5"


def test_batch_is_decided_oldest_first_with_rising_revisions():
    batch = [stored("B", "7"), removed("6"), stored("A", "5")]
    outcome = decide_all(batch, {}, {(*KEY, None): current("B")}, clock=10)
    assert [(one.change, one.etag) for one in outcome.facts] == [("stored", "A"), ("stored", "B")]
    assert [one.revision for one in outcome.facts] == [11, 12]
    assert outcome.states[KEY][1] == KnownObject("stored", None, "B", "7", 12, "born-B-7")


def test_revision_exceeds_the_known_one_even_if_the_clock_was_set_back():
    (fact,) = decide_all([stored("B", "6")], {KEY: known()}, {(*KEY, None): current("B")}, clock=1).facts
    assert fact.revision == 101


def test_stored_and_removed_in_one_batch_are_both_published():
    outcome = decide_all([removed(), stored()], {}, {(*KEY, None): None}, clock=1)
    assert [one.change for one in outcome.facts] == ["stored", "removed"]
    assert outcome.facts[1].correlation_id == outcome.facts[0].correlation_id
    assert outcome.to_verify == []


def test_event_published_by_a_sweep_only_adds_its_sequencer():
    outcome = decide_all([stored()], {KEY: known(sequencer=None)}, {}, clock=1)
    assert (outcome.facts, [one.sequencer for one in outcome.adopted]) == ([], ["5"])


def test_decisions_are_counted_by_lane():
    outcome = decide_all([stored(), stored(seen_by="safe")], {}, {(*KEY, None): current()}, clock=1)
    assert outcome.decisions == {("live", "news"): 1, ("safe", "duplicate"): 1}
