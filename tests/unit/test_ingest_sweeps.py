"""A listing against what is known."""

from datetime import UTC, datetime, timedelta

import pytest

from services.ingest.core.decisions import Known
from services.ingest.core.sweeps import Listed, gone, missed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def listing(*keys, etag="e", size=1, at=NOW - timedelta(minutes=1)):
    return {key: Listed(key, etag, size, at) for key in keys}


def knows(state="stored", etag="e"):
    return Known(state, None, etag, "1", 1)


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({}, ["a"]),
        ({"a": knows()}, []),
        ({"a": knows(etag="other")}, ["a"]),
        ({"a": knows("removed", None)}, ["a"]),
        ({"b": knows()}, ["a"]),
    ],
)
def test_missed_is_what_is_there_and_not_known_so(known, found):
    assert missed(listing("a"), known, settled_before=NOW) == found


def test_what_is_young_may_still_be_notified():
    assert missed(listing("a", at=NOW), {}, settled_before=NOW - timedelta(seconds=10)) == []


def test_folder_markers_and_keys_nobody_may_see_are_left():
    listed = listing("folder/", size=0) | listing("a\x1b", "b\u202e") | listing("folder/a", "full/")
    assert missed(listed, {}, settled_before=NOW) == ["folder/a", "full/"]


def test_gone_is_a_removal_without_a_sequencer():
    notice = gone("inbox", "a")
    assert (notice.change, notice.seen_by, notice.sequencer, notice.occurred_at) == ("removed", "sweep", None, None)
