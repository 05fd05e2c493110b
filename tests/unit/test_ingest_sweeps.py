"""A listing compared with the known objects."""

from datetime import UTC, datetime, timedelta

import pytest

from services.ingest.core.decisions import KnownObject
from services.ingest.core.sweeps import ListedObject, find_missed, removal_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def listing(*keys, etag="e", size=1, at=NOW - timedelta(minutes=1)):
    return {key: ListedObject(key, etag, size, at) for key in keys}


def known_object(state="stored", etag="e"):
    return KnownObject(state, None, etag, "1", 1)


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({}, ["a"]),
        ({"a": known_object()}, []),
        ({"a": known_object(etag="other")}, ["a"]),
        ({"a": known_object("removed", None)}, ["a"]),
        ({"b": known_object()}, ["a"]),
    ],
)
def test_find_missed_returns_listed_keys_without_a_matching_known_object(known, found):
    assert find_missed(listing("a"), known, settled_before=NOW) == found


def test_find_missed_skips_objects_younger_than_the_grace_period():
    assert find_missed(listing("a", at=NOW), {}, settled_before=NOW - timedelta(seconds=10)) == []


def test_find_missed_skips_folder_markers_and_unsafe_keys():
    listed = listing("folder/", size=0) | listing("a\x1b", "b\u202e") | listing("folder/a", "full/")
    assert find_missed(listed, {}, settled_before=NOW) == ["folder/a", "full/"]


def test_removal_of_has_no_sequencer():
    removal = removal_of("inbox", "a")
    assert (removal.change, removal.seen_by, removal.sequencer, removal.occurred_at) == ("removed", "sweep", None, None)
