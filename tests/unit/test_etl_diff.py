"""Which objects need work, and how they are grouped."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.etl.core import diff
from services.etl.core.datasets import Dataset
from services.etl.core.values import FileToLoad, KnownObject
from shared.text import is_unsafe

USERS = Dataset(name="users", bucket="b", key="user_id", columns={"name": {"type": "text"}}, images=("png",))
THEN = datetime(2026, 1, 1, tzinfo=UTC)


def file(key="1.csv", **more):
    return FileToLoad("b", key, USERS, USERS.kind_of("b", key), **more)


@pytest.mark.parametrize(
    ("revision", "known", "needs_work"),
    [
        (5, KnownObject(), True),
        (5, KnownObject(revision=4), True),
        (5, KnownObject(revision=5), False),
        (5, KnownObject(revision=6), False),
    ],
)
def test_change_needs_work_if_newer_than_known(revision, known, needs_work):
    assert diff.needs_work(file(revision=revision), known) is needs_work


@pytest.mark.parametrize(
    ("etag", "known", "needs_work"),
    [
        ("a", KnownObject(), True),
        ("a", KnownObject(etag="a", stored_at=THEN), False),
        ("b", KnownObject(etag="a", stored_at=THEN), True),
        (None, KnownObject(etag="a", stored_at=THEN), True),
        (None, KnownObject(id=1, fence=3), False),
    ],
)
def test_listed_object_needs_work_if_etag_or_time_differ(etag, known, needs_work):
    one = file(etag=etag, stored_at=etag and THEN)
    assert diff.needs_work(one, known) is needs_work
    assert diff.needs_work(replace(one, stored_at=datetime.now(UTC)), KnownObject(etag=etag, stored_at=THEN))


def test_only_same_change_or_load_is_republished():
    change, listed = file(revision=5), file(etag="a", stored_at=THEN, correlation_id="load")
    assert diff.needs_republish(change, KnownObject(revision=5))
    assert not diff.needs_republish(change, KnownObject(revision=6))
    assert diff.needs_republish(listed, KnownObject(etag="a", stored_at=THEN, correlation_id="load"))
    assert not diff.needs_republish(listed, KnownObject(etag="a", stored_at=THEN, correlation_id="other"))
    assert not diff.needs_republish(listed, KnownObject(etag="b", stored_at=THEN, correlation_id="load"))


def test_latest_change_of_an_object_wins():
    changes = [file(revision=2), file(revision=3), file("2.csv", revision=1), file(revision=1)]
    assert sorted((one.key, one.revision) for one in diff.latest_changes(changes)) == [("1.csv", 3), ("2.csv", 1)]


@pytest.mark.parametrize("key", ["a b/ü.csv", "=1+1.csv", "李.png", "a\u00a0b.csv"])
def test_key_accepted_in_events_is_safe_in_listings(key):
    assert not is_unsafe(key)


@pytest.mark.parametrize("key", ["a\x00.csv", "a\n.csv", "a\u202e.csv", "a\udcff.csv", "a\x85.csv"])
def test_key_rejected_in_events_is_unsafe_in_listings(key):
    assert is_unsafe(key)


keys = st.sampled_from([f"{user}.{ending}" for user in range(6) for ending in ("csv", "jsonl", "png")])
objects = st.lists(
    st.builds(lambda key, size: file(key, size=size), keys, st.integers(0, 200)), unique_by=lambda one: one.key
)


@given(objects, st.integers(1, 4))
def test_chunks_hold_each_object_once_keep_items_whole_and_isolate_large_files(listed, size):
    listed = sorted(listed, key=lambda one: one.key)
    cut = list(diff.chunks(listed, size=size, large_bytes=100))
    assert sorted(one.key for piece in cut for one in piece) == [one.key for one in listed]
    assert all(cut)
    small = [piece for piece in cut if not diff.is_large(piece[0], 100)]
    assert not any(diff.is_large(one, 100) for piece in small for one in piece)
    assert all(len(piece) == 1 for piece in cut if piece not in small)
    homes = [
        one.key.partition(".")[0] for piece in small for one in {o.key.partition(".")[0]: o for o in piece}.values()
    ]
    assert len(homes) == len(set(homes))
    assert all(len({one.key.partition(".")[0] for one in piece}) <= size for piece in small)


@given(objects, st.integers(1, 4), st.integers(1, 300))
def test_batches_are_bounded_in_objects_and_bytes(listed, max_objects, max_bytes):
    cut = list(diff.batches(listed, max_objects=max_objects, max_bytes=max_bytes))
    assert sorted(one.key for piece in cut for one in piece) == sorted(one.key for one in listed)
    for piece in cut:
        files = [one.size for one in piece if one.kind == "rows"]
        assert len(piece) <= max_objects
        assert sum(files) <= max_bytes or len(files) == 1


def test_batch_has_one_dataset():
    other = replace(file("3.csv"), dataset=USERS.model_copy(update={"name": "others"}))
    cut = diff.batches([file("1.csv"), other, file("2.csv")], max_objects=10, max_bytes=10)
    assert sorted([one.key for one in piece] for piece in cut) == [["1.csv", "2.csv"], ["3.csv"]]
