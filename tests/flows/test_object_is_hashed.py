"""A notification in, digests out: ingest and the hasher on one bus, over one bucket."""

import hashlib
import itertools

import pytest
import stamina

from services.hasher.settings import HasherSettings
from shared.events import ObjectChanged, ObjectHashed
from shared.testing.bus import connected, record
from shared.testing.objects import MemoryStore
from shared.topics import MINIO_LIVE, MINIO_SAFE
from tests.fakes.hasher import Hasher
from tests.fakes.ingest import Ingest, lane


@pytest.fixture
async def penstock():
    store = MemoryStore("inbox", "src-data", "jobs", "runs")
    ingest, hasher = Ingest(store=store), Hasher(HasherSettings(hasher_wait_for_object=0.0), store)
    with stamina.set_testing(True, attempts=3, cap=True):
        async with connected(ingest.wired, hasher.wired):
            yield ingest, hasher


def facts(hasher):
    return hasher.recorder.events(ObjectHashed)


async def test_a_dropped_object_has_its_digests_and_one_id_all_the_way(penstock):
    ingest, hasher = penstock
    await ingest.wired.deliver(lane(await ingest.put("a b+c/ü.txt", b"hello", metadata={"md5": "0" * 32})))
    (changed,), (hashed,) = ingest.recorder.events(ObjectChanged), facts(hasher)
    assert hashed.digests["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert (hashed.key, hashed.verification) == ("a b+c/ü.txt", "mismatch")
    assert changed.correlation_id == hashed.correlation_id
    spans = {one.headers["traceparent"].split("-")[1] for wired in penstock for one in wired.recorder.published}
    assert spans == {changed.correlation_id}


async def test_two_lanes_in_any_order_end_in_one_fact_a_version(penstock):
    ingest, hasher = penstock
    stored = [await ingest.put(key, key.encode()) for key in ("a", "b", "c")]
    lanes = [lane(one, topic=topic) for topic in (MINIO_SAFE, MINIO_LIVE) for one in stored]
    for order in itertools.islice(itertools.permutations(lanes), 0, 720, 90):
        await ingest.wired.deliver(*order)
    assert {one.key: one.digests["sha256"] for one in facts(hasher)} == {
        key: hashlib.sha256(key.encode()).hexdigest() for key in ("a", "b", "c")
    }
    assert len(facts(hasher)) == 3


async def test_overwritten_removed_and_stored_again_ends_with_the_last_bytes(penstock):
    ingest, hasher = penstock
    history = [await ingest.put("a", b"1"), await ingest.put("a", b"22"), await ingest.delete("a")]
    history.append(await ingest.put("a", b"333"))
    for notice in history:
        await ingest.wired.deliver(lane(notice))
    assert hasher.ledger["a"].digests["sha256"] == hashlib.sha256(b"333").hexdigest()
    assert facts(hasher)[-1].size == 3
    assert ingest.recorder.dead_letters() + hasher.recorder.dead_letters() == []


async def test_a_removal_takes_its_digests_along(penstock):
    ingest, hasher = penstock
    await ingest.wired.deliver(lane(await ingest.put("a")))
    await ingest.wired.deliver(lane(await ingest.delete("a")))
    assert [kept.current for kept in hasher.ledger.rows.values()] == [False]


async def test_a_sweep_finds_and_hashes_what_was_never_notified(penstock):
    ingest, hasher = penstock
    for nth in range(5):
        await ingest.put(f"missed-{nth}")
    await ingest.sweep()
    assert sorted(one.key for one in facts(hasher)) == [f"missed-{nth}" for nth in range(5)]


async def test_a_lost_database_is_rebuilt_from_the_bucket(penstock):
    ingest, hasher = penstock
    await ingest.wired.deliver(*[lane(await ingest.put(key)) for key in ("a", "b")])
    before = {one.key: one.digests for one in facts(hasher)}
    ingest.memory.known.clear()
    hasher.ledger.rows.clear()
    await ingest.sweep()
    assert {key: kept.row.digests for (_, key, _), kept in hasher.ledger.rows.items()} == before


async def test_poison_on_either_topic_harms_no_object(penstock):
    ingest, hasher = penstock
    await ingest.wired.deliver(record(MINIO_LIVE.name, b"garbage"), lane(await ingest.put("a")))
    await hasher.wired.deliver(record(ObjectChanged.topic.name, b"garbage"))
    assert [one.key for one in facts(hasher)] == ["a"]
    assert (ingest.recorder.dead_letter_codes(), hasher.recorder.dead_letter_codes()) == (
        ["BAD_NOTIFICATION"],
        ["BAD_EVENT"],
    )
