"""The replacement of all objects under a prefix."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.storage import ObjectGone, ObjectRef
from shared.storage.prefixes import (
    PrefixLocks,
    Replacement,
    ancestors,
    overlap,
    refuse_hidden_prefix,
    replace,
    snapshot,
)
from shared.testing.objects import MemoryStore

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = SINCE - timedelta(seconds=1), SINCE + timedelta(milliseconds=1)


def replacement(*names, at=SINCE):
    return Replacement("inbox", "p/", {f"p/{name}": ObjectRef("staging", f"s/{name}") for name in names}, at)


def test_keys_newer_than_the_commit_stay():
    present = {"p/x": OLD, "p/y": NEW, "p/old": OLD, "p/late": NEW, "p/same": SINCE}
    one = replacement("x", "y", "z")
    assert one.keys_to_copy(present) == ["p/x", "p/z"]
    assert one.keys_to_delete(present) == ["p/old", "p/same"]


NAMES = st.sets(st.text("abc", min_size=1, max_size=3), min_size=1)


@given(NAMES, NAMES)
def test_applied_plan_leaves_exactly_the_set(new, old):
    one, present = replacement(*new), {f"p/{name}": OLD for name in old}
    for key in one.keys_to_copy(present):
        present[key] = NEW
    for key in one.keys_to_delete(present):
        del present[key]
    assert set(present) == {f"p/{name}" for name in new}
    assert not one.keys_to_copy(present)
    assert not one.keys_to_delete(present)


async def keys_of(store, prefix):
    return [key async for page in snapshot(store, "inbox", prefix) for key in page]


async def test_replace_repeated_leaves_the_set_and_what_is_outside_the_prefix():
    store = MemoryStore("inbox", "staging")
    for key in ("p/x", "p/old", "pq/other"):
        await store.put(ObjectRef("inbox", key), b"old")
    for name in ("x", "y"):
        await store.put(ObjectRef("staging", f"s/{name}"), b"new")
    one = replacement("x", "y", at=datetime.now(UTC) + timedelta(hours=1))
    for _ in range(2):
        await replace(store, one)
        assert await keys_of(store, "p") == ["p/x", "p/y", "pq/other"]
    assert (await store.read(ObjectRef("inbox", "p/x")))[1] == b"new"


async def test_missing_source_deletes_nothing():
    store = MemoryStore("inbox", "staging")
    await store.put(ObjectRef("inbox", "p/old"), b"old")
    with pytest.raises(ObjectGone):
        await replace(store, replacement("x", at=datetime.now(UTC)))
    assert await keys_of(store, "p/") == ["p/old"]


async def test_object_named_like_a_parent_folder_hides_the_prefix():
    store = MemoryStore("inbox")
    await refuse_hidden_prefix(store, "inbox", "a/b/")
    await store.put(ObjectRef("inbox", "a"), b"x")
    with pytest.raises(Rejected) as refused:
        await refuse_hidden_prefix(store, "inbox", "a/b/")
    assert refused.value.code == "PREFIX_HIDDEN"


def test_prefixes_overlap_where_one_is_within_the_other():
    assert overlap("p/", "p/q/")
    assert overlap("p/q/", "p/")
    assert not overlap("p/", "pq/")


def test_ancestors_lists_every_parent_folder():
    assert ancestors("a/b/c/") == ["a", "a/b", "a/b/c"]


async def test_lock_of_an_overlapping_prefix_waits_and_others_do_not():
    locks, entered = PrefixLocks(), []

    async def hold(prefix):
        async with locks.of("inbox", prefix):
            entered.append(prefix)

    async with locks.of("inbox", "p/"):
        waiting = asyncio.create_task(hold("p/q/"))
        await asyncio.sleep(0)  # lets the task run until it waits
        await hold("pq/")
        assert entered == ["pq/"]
    await waiting
    assert entered == ["pq/", "p/q/"]
