"""Ingest's outside in memory, and ingest wired to it."""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import quote_plus

from services.ingest import handlers
from services.ingest.adapters.bucket import Bucket
from services.ingest.core.decisions import order, place_of
from services.ingest.settings import IngestSettings
from services.ingest.workers import Doubts, Sweeper
from shared.events import SweepRequested
from shared.storage import ObjectRef
from shared.testing.bus import Wired, record, wire
from shared.testing.objects import MemoryStore
from shared.testing.work import MemoryQueue
from shared.topics import MINIO_LIVE
from shared.work import Lease


class FakeMemory:
    """`ingest.objects`, doubts and sweeps: newer revisions win, a late sequencer only fills a gap."""

    def __init__(self):
        self.known = {}
        self.doubts = {}
        self.sweeps = {}
        self.clock = 1_000
        self.forgets = False
        """While set, nothing told is remembered: the process died in between."""

    @asynccontextmanager
    async def telling(self, *, alone=False):  # noqa: ARG002
        yield

    async def recall(self, places):
        self.clock += 1_000
        return {place: self.known[place] for place in places if place in self.known}, self.clock

    async def remember(self, outcome, *, sweep_id=None):  # noqa: ARG002
        if self.forgets:
            raise ConnectionResetError
        for place, (_, state) in outcome.states.items():
            if place not in self.known or self.known[place].revision < state.revision:
                self.known[place] = state
        for late in outcome.adopted:
            mine = self.known[place_of(late)]
            if order(mine.sequencer or "") < order(late.sequencer):
                self.known[place_of(late)] = replace(mine, sequencer=late.sequencer)

    async def known_between(self, bucket, prefix, *, after, upto, limit):
        keys = sorted(
            key
            for (where, key), state in self.known.items()
            if where == bucket and state.state == "stored" and key.startswith(prefix) and key > after
        )
        return {key: self.known[bucket, key] for key in keys[:limit] if upto is None or key <= upto}

    async def doubt(self, records, seconds):  # noqa: ARG002
        self.doubts |= {(one.topic, one.partition, one.offset): one for one in records}

    async def due_doubts(self, limit=100):
        return list(self.doubts.values())[:limit]

    async def postpone(self, record, seconds):  # noqa: ARG002
        place = (record.topic, record.partition, record.offset)
        self.doubts[place] = self.doubts.pop(place)

    async def settle(self, record):
        del self.doubts[record.topic, record.partition, record.offset]

    async def begin_sweep(self, sweep_id, buckets, prefix):
        self.sweeps[sweep_id] = (buckets, prefix)

    async def finish_sweep(self, done):
        self.sweeps[done.sweep_id] = done


@dataclass
class Ingest:
    """Ingest without a server; `events` counts up the sequencers of the bucket's own notifications."""

    settings: IngestSettings = field(default_factory=IngestSettings)
    store: MemoryStore = field(default_factory=lambda: MemoryStore("inbox", "src-data", "jobs", "runs", "alien"))
    memory: FakeMemory = field(default_factory=FakeMemory)
    events: int = 0

    def __post_init__(self):
        self.wired: Wired = wire(self.settings, handlers.router)
        bucket = Bucket(self.store, in_flight=8)
        self.queue = MemoryQueue("sweep")
        self.merger = handlers.Merger(self.memory, bucket, self.wired.bus, self.queue, self.settings)
        self.sweeper = Sweeper(self.memory, bucket, self.wired.bus, self.queue, self.settings)
        self.doubts = Doubts(self.memory, self.merger, self.wired.bus)
        handlers.router.provided.update(merger=self.merger, sweeps=self.queue, settings=self.settings)

    @property
    def recorder(self):
        return self.wired.recorder

    async def put(self, key, body=b"hello", *, bucket="inbox", **upload):
        """Store an object; return its notification as the bucket writes it."""
        info = await self.store.put(ObjectRef(bucket, key), body, **upload)
        return self.notice("s3:ObjectCreated:Put", bucket, key, info)

    def versioned(self, *, now=True, trusts=False):
        """Let the bucket keep versions from now on, and ingest look at all it holds or trust notifications."""
        self.store._versioned = now
        self.merger.bucket._describe = not trusts

    async def delete(self, key, *, bucket="inbox", version_id=None):
        """Remove an object or a version; return its notification."""
        await self.store.delete(ObjectRef(bucket, key, version_id))
        if version_id is not None:
            return self.notice("s3:ObjectRemoved:Delete", bucket, key, version_id=version_id)
        made = "DeleteMarkerCreated" if self.store._versioned else "Delete"
        return self.notice(f"s3:ObjectRemoved:{made}", bucket, key)

    async def undelete(self, key, *, bucket="inbox"):
        """Remove a delete marker; return its notification, which MinIO names as that of its creation."""
        assert self.store._buckets[bucket][key].pop() is None
        return self.notice("s3:ObjectRemoved:DeleteMarkerCreated", bucket, key, version_id="a-marker")

    def notice(self, name, bucket, key, info=None, *, version_id=None):
        self.events += 1
        described = {"key": quote_plus(key), "sequencer": f"18EA0C15{self.events:08X}"}
        described |= {"versionId": version_id} if version_id else {}
        if info is not None:
            named = {f"X-Amz-Meta-{name}": value for name, value in info.metadata.items()}
            described |= {"size": info.size, "eTag": info.etag, "userMetadata": named}
            described |= {"versionId": info.ref.version_id} if info.ref.version_id else {}
        return {
            "eventName": name,
            "eventTime": datetime.now(UTC).isoformat(),
            "s3": {"bucket": {"name": bucket}, "object": described},
        }

    async def sweep(self, *buckets):
        """Request a sweep on the bus and do it."""
        event = SweepRequested(sweep_id=f"sweep-{len(self.memory.sweeps)}", buckets=buckets)
        await self.wired.broker.publish(event, SweepRequested.topic.name)
        await self.work()

    async def work(self):
        """Do the sweeps that wait."""
        for item in await self.queue.claim("worker", 10):
            await self.sweeper.sweep(Lease(item))
            await self.queue.complete(item)


def lane(*notices, topic=MINIO_LIVE, key=b"inbox/key"):
    """Return the Kafka record that carries `notices`."""
    return record(topic.name, json.dumps({"EventName": "x", "Key": "x", "Records": notices}).encode(), key=key)
