"""Any record with any field, in between real ones: in the end what is known is what the bucket holds."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.events import ObjectChanged
from shared.storage import ObjectRef
from shared.testing.bus import connected, record, record_of
from shared.topics import MINIO_LIVE, OBJECTS_CHANGED
from shared.work import Lease
from tests.component.conftest import hashing
from tests.fakes.ingest import Ingest, lane
from tests.support.system import digests_of

KEYS = ("a", "b", "dir/c")
BODIES = (b"", b"one", b"other", b"x" * 40)
WORDS = st.one_of(
    st.sampled_from(["", "null", "version-1", "version-2", "FFFFFFFFFFFFFFFF", "\x00", "a\r\nb"]), st.text(max_size=8)
)
METADATA = st.dictionaries(st.sampled_from(["md5", "penstock-digests", "owner"]), WORDS, max_size=2)
NUMBERS = st.one_of(st.integers(-1, 100), st.sampled_from([1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, 10**30]))
TIMES = st.one_of(
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "soon", None]),
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
)
ETAGS = st.one_of(WORDS, st.sampled_from(BODIES).map(lambda body: digests_of(body, ["md5"])["md5"]))
NOTHING = st.just(...)
REAL = st.tuples(
    st.sampled_from(["put", "delete"]),
    st.sampled_from(KEYS),
    st.sampled_from(BODIES),
    st.sampled_from([{}, {"owner": "me"}]),
)


def fields(**values):
    """Forge a body of which any field may be missing."""
    present = st.fixed_dictionaries({name: st.one_of(value, NOTHING) for name, value in values.items()})
    return present.map(lambda body: {name: value for name, value in body.items() if value is not ...})


FORGED_CHANGE = fields(
    change=st.sampled_from(["stored", "removed"]),
    bucket=st.sampled_from(["inbox", "inbox?x", "other", ""]),
    key=st.one_of(st.sampled_from(KEYS), WORDS),
    version_id=WORDS,
    etag=ETAGS,
    size=NUMBERS,
    content_type=WORDS,
    metadata=METADATA,
    sequencer=WORDS,
    revision=NUMBERS,
    occurred_at=TIMES,
    correlation_id=WORDS,
)
FORGED_OBJECT = fields(
    key=st.one_of(st.sampled_from(KEYS), WORDS),
    size=NUMBERS,
    eTag=ETAGS,
    versionId=WORDS,
    contentType=WORDS,
    sequencer=WORDS,
    userMetadata=METADATA.map(lambda said: {f"X-Amz-Meta-{name}": text for name, text in said.items()}),
)
FORGED_NOTIFICATION = st.fixed_dictionaries(
    {
        "eventName": st.sampled_from(
            ["s3:ObjectCreated:Put", "s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated"]
        ),
        "eventTime": TIMES,
        "s3": st.fixed_dictionaries(
            {"bucket": st.sampled_from([{"name": "inbox"}, {"name": "inbox?x"}]), "object": FORGED_OBJECT}
        ),
    }
)
often = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def steps(forged):
    return st.lists(st.one_of(REAL, forged), max_size=12)


async def act(service, step):
    """Do what a client of the bucket does; return what that leads to."""
    action, key, body, metadata = step
    return await service.put(key, body, metadata=metadata) if action == "put" else await service.delete(key)


async def stored_in(store):
    pages = [page async for page in store.list("inbox", described=True)]
    return {one.ref.key: await store.head(ObjectRef("inbox", one.ref.key)) for page in pages for one in page}


@often
@given(steps(FORGED_NOTIFICATION), st.booleans())
def test_ingest_knows_the_bucket_whatever_notifications_are_forged(acts, versioned):
    asyncio.run(_ingest(acts, versioned=versioned))


async def _ingest(acts, *, versioned):
    ingest = Ingest()
    ingest.store._versioned = versioned
    async with connected(ingest.wired):
        for step in acts:
            notice = step if isinstance(step, dict) else await act(ingest, step)
            await ingest.wired.deliver(lane(notice))
        await ingest.verifications._verify_due()
        await ingest.sweep("inbox")
        there = await stored_in(ingest.store)
    known = {key: one for (bucket, key), one in ingest.known_objects.known.items() if one.state == "stored"}
    assert {key: (one.etag, one.size, one.version_id, one.metadata) for key, one in known.items()} == {
        key: (one.etag, one.size, one.ref.version_id, dict(one.metadata)) for key, one in there.items()
    }


@often
@given(steps(FORGED_CHANGE), st.booleans())
def test_the_hasher_knows_the_bucket_whatever_facts_are_forged(acts, versioned):
    asyncio.run(_hash(acts, versioned=versioned))


async def _hash(acts, *, versioned):
    async with hashing(hasher_large_bytes=20) as hasher:
        hasher.store._versioned = versioned
        hasher.revision = 1_700_000_000_000_000
        hasher.ledger.clock = lambda: hasher.revision
        for step in acts:
            forged = isinstance(step, dict)
            fact = (
                record(OBJECTS_CHANGED.name, json.dumps(step).encode())
                if forged
                else record_of(await act(hasher, step))
            )
            await hasher.wired.deliver(fact)
            await work(hasher)
        there = await stored_in(hasher.store)
        bodies = {key: (await hasher.store.read(ObjectRef("inbox", key)))[1] for key in there}
    current = [one.row for one in hasher.ledger.rows.values() if one.current and one.row.status == "succeeded"]
    found = {row.change.key: (row.change.etag, row.change.size, row.digests, row.verification) for row in current}
    right = {key: (one.etag, one.size, digests_of(bodies[key]), None) for key, one in there.items()}
    assert len(current) == len(found)
    assert {key: found.get(key) for key in there} == right
    assert set(found) == set(there)


async def work(hasher):
    for item in await hasher.queue.claim("worker", 100):
        await hasher.large.digest(Lease(item))
        await hasher.queue.complete(item)


@pytest.mark.parametrize("ahead", [(1 << 63) - 1, 10**30])
async def test_a_revision_beyond_the_clock_is_a_dead_letter_and_outdates_nothing(hasher, ahead):
    stored = await hasher.put("a")
    forged = json.loads(stored.model_dump_json()) | {"revision": ahead}
    await hasher.wired.deliver(record(OBJECTS_CHANGED.name, json.dumps(forged).encode()))
    assert hasher.recorder.dead_letter_codes() == ["REVISION_AHEAD"]
    await hasher.wired.deliver(record_of(stored))
    assert hasher.ledger["a"].status == "succeeded"


async def test_a_revision_within_the_tolerance_outdates_no_later_change(hasher):
    first = await hasher.put("a", b"one")
    hasher.ledger.clock = lambda: hasher.revision
    forged = first.model_copy(update={"revision": int(datetime.now(UTC).timestamp() * 1e6) + 60_000_000})
    await hasher.wired.deliver(record_of(forged))
    await hasher.wired.deliver(record_of(await hasher.put("a", b"other")))
    assert hasher.ledger["a"].digests == digests_of(b"other")


async def test_a_forged_sequencer_keeps_no_later_notification_out(ingest):
    first = await ingest.put("a", b"one")
    first["s3"]["object"]["sequencer"] = "F" * 16
    await ingest.wired.deliver(lane(first))
    await ingest.wired.deliver(lane(await ingest.put("a", b"other")))
    assert ingest.recorder.events(ObjectChanged)[-1].etag == digests_of(b"other", ["md5"])["md5"]
    await ingest.wired.deliver(lane(await ingest.delete("a")))
    assert ingest.known_objects.known["inbox", "a"].state == "removed"


async def test_a_sweep_finds_metadata_that_is_not_the_buckets(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a", metadata={"owner": "me"})))
    known = ingest.known_objects.known["inbox", "a"]
    object.__setattr__(known, "metadata", {"owner": "somebody else"})
    await ingest.sweep("inbox")
    assert ingest.recorder.events(ObjectChanged)[-1].metadata == {"owner": "me"}
    assert MINIO_LIVE.name not in ingest.recorder.dead_letter_codes()
