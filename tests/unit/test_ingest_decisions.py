"""What is known, what a notice says and what the bucket answers decide together."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.decisions import Known, Truth, Verdict, after, decide, is_told, judge, order
from shared.events import ObjectChanged

NOW = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
PLACE = ("inbox", "a")
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
    return Known(state, version, etag, sequencer, 100, "born")


def truth(etag="A", at=NOW, version=None):
    return Truth(etag, at, version)


@given(sequencers, sequencers)
def test_sequencers_are_compared_with_the_shorter_padded_on_the_right(one, other):
    width = max(len(one), len(other))
    padded = [each.upper().ljust(width, "0") for each in (one, other)]
    assert (order(one) < order(other)) == (padded[0] < padded[1])
    assert (order(one) == order(other)) == (padded[0] == padded[1])


@given(st.lists(sequencers, min_size=2, max_size=8))
def test_the_order_is_total(many):
    ranked = sorted(many, key=order)
    assert all(order(before) <= order(after) for before, after in pairwise(ranked))


@given(sequencers)
def test_equal_sequencers_are_the_same_event_in_any_case_and_padding(sequencer):
    mine = known(sequencer=sequencer.lower() + "00")
    assert is_told(mine, stored(etag="other", sequencer=sequencer.upper())) is Verdict.DUPLICATE


@given(sequencers, sequencers)
def test_what_is_no_newer_event_never_replaces_what_the_bucket_confirms(one, other):
    older, newer = sorted((one, other), key=order)
    verdict = decide(known(etag="A", sequencer=newer), stored("B", older), truth("A"))
    assert verdict is Verdict.STALE


@pytest.mark.parametrize(
    ("mine", "notice", "verdict"),
    [
        (None, stored(), None),
        (known(), stored(), Verdict.DUPLICATE),
        (known(), stored(sequencer="6"), None),
        (known(sequencer=None), stored(), Verdict.ADOPT),
        (known(sequencer=None), stored("B"), None),
        (known(), stored(sequencer=None), Verdict.DUPLICATE),
        (known("removed", None, None), removed(), Verdict.ADOPT),
        (known(sequencer=None, version="v1"), stored(version="v2"), None),
    ],
)
def test_memory_alone_tells_only_what_was_told(mine, notice, verdict):
    assert is_told(mine, notice) is verdict


@pytest.mark.parametrize(
    ("mine", "notice", "there", "verdict"),
    [
        (None, stored(), truth(), Verdict.NEWS),
        (None, stored("A"), truth("B"), Verdict.NEWS),
        (None, stored(), None, Verdict.DOUBTFUL),
        (None, removed(), None, Verdict.ABSENT),
        (known(), stored("B", "6"), truth("B"), Verdict.NEWS),
        (known(), stored("B", "4"), truth("A"), Verdict.STALE),
        (known(), stored("B", "4"), truth("B"), Verdict.NEWS),
        (known(), stored("B", "4"), None, Verdict.STALE),
        (known(), removed("4"), truth(), Verdict.STALE),
        (known(), removed("4"), None, Verdict.NEWS),
        (known(), removed("6"), truth(at=NOW.replace(microsecond=0)), Verdict.STALE),
        (known(), removed("6"), truth(at=NOW - timedelta(seconds=2)), Verdict.FALSE),
        (known("removed", None, "6"), removed("7"), None, Verdict.ADOPT),
        (known("removed", None, "6"), stored(), None, Verdict.STALE),
        (known("removed", None, "6"), stored(), truth(), Verdict.NEWS),
        (known(version="v2"), stored("A", "4", "v1"), truth(version="v2"), Verdict.STALE),
        (known(version="v1", sequencer=None), stored("A", "5", "v2"), truth(version="v2"), Verdict.NEWS),
    ],
)
def test_the_bucket_settles_what_memory_does_not(mine, notice, there, verdict):
    assert decide(mine, notice, there) is verdict


@pytest.mark.parametrize("sequencer", [None, "4", "5"])
def test_what_is_known_keeps_its_highest_sequencer(sequencer):
    assert after(known(sequencer="5"), removed(sequencer)).sequencer == "5"


def test_a_batch_is_judged_oldest_first_and_revisions_rise():
    batch = [stored("B", "7"), removed("6"), stored("A", "5")]
    outcome = judge(batch, {}, {(*PLACE, None): truth("B")}, clock=10)
    assert [(one.change, one.etag) for one in outcome.facts] == [("stored", "A"), ("stored", "B")]
    assert [one.revision for one in outcome.facts] == [11, 12]
    assert outcome.states[PLACE][1] == Known("stored", None, "B", "7", 12, "born-B-7")


def test_a_revision_is_above_what_is_known_even_when_the_clock_stepped_back():
    (fact,) = judge([stored("B", "6")], {PLACE: known()}, {(*PLACE, None): truth("B")}, clock=1).facts
    assert fact.revision == 101


def test_stored_and_removed_in_one_batch_is_told_whole():
    outcome = judge([removed(), stored()], {}, {(*PLACE, None): None}, clock=1)
    assert [one.change for one in outcome.facts] == ["stored", "removed"]
    assert outcome.facts[1].correlation_id == outcome.facts[0].correlation_id
    assert outcome.doubtful == []


def test_what_a_sweep_told_only_gets_its_sequencer():
    outcome = judge([stored()], {PLACE: known(sequencer=None)}, {}, clock=1)
    assert (outcome.facts, [one.sequencer for one in outcome.adopted]) == ([], ["5"])


def test_verdicts_are_counted_by_lane():
    outcome = judge([stored(), stored(seen_by="safe")], {}, {(*PLACE, None): truth()}, clock=1)
    assert outcome.verdicts == {("live", "news"): 1, ("safe", "duplicate"): 1}
