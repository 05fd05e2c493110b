"""Ingest wired to in-memory adapters."""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import quote_plus

from services.ingest import handlers
from services.ingest.adapters.bucket import Bucket
from services.ingest.core.decisions import object_key_of, sequencer_order
from services.ingest.merging import Merger
from services.ingest.settings import IngestSettings
from services.ingest.workers import PendingVerifications, Sweeper
from shared.events import SweepRequested
from shared.storage import ObjectRef
from shared.testing.bus import Wired, record, wire
from shared.testing.objects import MemoryStore
from shared.testing.work import MemoryQueue
from shared.topics import MINIO_LIVE
from shared.work import Lease


class FakeKnownObjects:
    """Known objects, pending verifications and sweeps in memory: newer revisions win, sequencers only rise."""

    def __init__(self):
        self.known = {}
        self.pending = {}
        self.sweeps = {}
        self.clock = 1_000
        self.save_fails = False
        """While set, `save` fails, as if the process had died after publishing."""

    @asynccontextmanager
    async def publishing(self, *, exclusive=False):  # noqa: ARG002
        yield

    async def get(self, keys):
        self.clock += 1_000
        return {key: self.known[key] for key in keys if key in self.known}, self.clock

    async def save(self, outcome, *, sweep_id=None):  # noqa: ARG002
        if self.save_fails:
            raise ConnectionResetError
        for key, (_, state) in outcome.states.items():
            if key not in self.known or self.known[key].revision < state.revision:
                self.known[key] = state
        for late in outcome.adopted:
            known = self.known[object_key_of(late)]
            if sequencer_order(known.sequencer or "") < sequencer_order(late.sequencer):
                self.known[object_key_of(late)] = replace(known, sequencer=late.sequencer)

    async def list_stored(self, bucket, prefix, *, after, upto, limit):
        keys = sorted(
            key
            for (other, key), state in self.known.items()
            if other == bucket and state.state == "stored" and key.startswith(prefix) and key > after
        )
        return {key: self.known[bucket, key] for key in keys[:limit] if upto is None or key <= upto}

    async def add_pending(self, records, seconds):  # noqa: ARG002
        self.pending |= {(one.topic, one.partition, one.offset): one for one in records}

    async def due_pending(self, limit=100):
        return list(self.pending.values())[:limit]

    async def postpone_pending(self, record, seconds):  # noqa: ARG002
        key = (record.topic, record.partition, record.offset)
        self.pending[key] = self.pending.pop(key)

    async def remove_pending(self, record):
        del self.pending[record.topic, record.partition, record.offset]

    async def start_sweep(self, sweep_id, buckets, prefix):
        self.sweeps[sweep_id] = (buckets, prefix)

    async def finish_sweep(self, done):
        self.sweeps[done.sweep_id] = done


@dataclass
class Ingest:
    """Ingest without servers; `events` is the last sequencer of the bucket's notifications."""

    settings: IngestSettings = field(default_factory=IngestSettings)
    store: MemoryStore = field(default_factory=lambda: MemoryStore("inbox", "src-data", "jobs", "runs", "alien"))
    known_objects: FakeKnownObjects = field(default_factory=FakeKnownObjects)
    events: int = 0

    def __post_init__(self):
        self.wired: Wired = wire(self.settings, handlers.router)
        bucket = Bucket(self.store, in_flight=8)
        self.queue = MemoryQueue("sweep")
        self.merger = Merger(self.known_objects, bucket, self.wired.bus, self.queue, self.settings)
        self.sweeper = Sweeper(self.known_objects, bucket, self.wired.bus, self.queue, self.settings)
        self.verifications = PendingVerifications(self.known_objects, self.merger, self.wired.bus)
        self.wired.attach(merger=self.merger, sweeps=self.queue, settings=self.settings)

    @property
    def recorder(self):
        return self.wired.recorder

    async def put(self, key, body=b"hello", *, bucket="inbox", **upload):
        """Store an object; return its notification as MinIO writes it."""
        info = await self.store.put(ObjectRef(bucket, key), body, **upload)
        return self.notification("s3:ObjectCreated:Put", bucket, key, info)

    def versioned(self, *, now=True, trust_notifications=False):
        """Switch the bucket's versioning, and whether ingest trusts notifications."""
        self.store._versioned = now
        self.merger.bucket._describe = not trust_notifications

    async def delete(self, key, *, bucket="inbox", version_id=None):
        """Remove an object or a version; return its notification."""
        await self.store.delete(ObjectRef(bucket, key, version_id))
        if version_id is not None:
            return self.notification("s3:ObjectRemoved:Delete", bucket, key, version_id=version_id)
        made = "DeleteMarkerCreated" if self.store._versioned else "Delete"
        return self.notification(f"s3:ObjectRemoved:{made}", bucket, key)

    async def undelete(self, key, *, bucket="inbox"):
        """Remove a delete marker; return its notification, whose event name is that of the marker's creation."""
        assert self.store._buckets[bucket][key].pop() is None
        return self.notification("s3:ObjectRemoved:DeleteMarkerCreated", bucket, key, version_id="a-marker")

    def notification(self, name, bucket, key, info=None, *, version_id=None):
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
        """Request a sweep on the bus and process it."""
        event = SweepRequested(sweep_id=f"sweep-{len(self.known_objects.sweeps)}", buckets=buckets)
        await self.wired.broker.publish(event, SweepRequested.topic.name)
        await self.work()

    async def work(self):
        """Process the pending sweeps."""
        for item in await self.queue.claim("worker", 10):
            await self.sweeper.sweep(Lease(item))
            await self.queue.complete(item)


def lane(*notifications, topic=MINIO_LIVE, key=b"inbox/key"):
    """Return the Kafka record that carries `notifications`."""
    return record(topic.name, json.dumps({"EventName": "x", "Key": "x", "Records": notifications}).encode(), key=key)
