"""Etl over a bucket in memory and a real database: its ways from event to rows, called directly and broken anywhere."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from services.etl import handlers
from services.etl.adapters.bucket import Bucket
from services.etl.adapters.large_files import LargeFiles
from services.etl.adapters.loads import Loads
from services.etl.adapters.tables import Tables
from services.etl.core.datasets import Dataset, Datasets
from services.etl.loading import Loader
from services.etl.settings import EtlSettings
from services.etl.workers import FileLoads, FullLoads
from shared.bus import Received
from shared.events import EtlLoaded, EtlRequested, Event, ObjectChanged
from shared.postgres import Pool
from shared.storage import ObjectRef
from shared.testing.bus import record_of
from shared.testing.objects import MemoryStore
from shared.work import Lease, WorkQueue
from tests.support.uploads import Stored, Upload

BUCKET: Final = "src-data"
LARGE_BYTES: Final = 180
"""So that a file of a few rows is large already."""
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Crash(BaseException):
    """The process is killed here: a BaseException, so that no handler catches it."""


class Ticking(MemoryStore):
    """A store whose objects are each a second younger than the one before; `meanwhile` happens after a look at it."""

    def __init__(self) -> None:
        super().__init__(BUCKET)
        self.meanwhile: list[Callable[[], Awaitable[None]]] = []
        self._seconds = itertools.count(1)

    def _add(self, ref: ObjectRef, version: Any) -> None:
        if version is not None:
            version.info = replace(version.info, last_modified=EPOCH + timedelta(seconds=next(self._seconds)))
        super()._add(ref, version)

    async def read(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read(*args, **options)
        finally:
            if self.meanwhile:
                await self.meanwhile.pop(0)()


class Crashing(Tables):
    """Tables whose next transaction ends with a crash: `before` its commit, or `after`."""

    crash: str = ""

    @asynccontextmanager
    async def transaction(self, dataset: Dataset) -> AsyncIterator[Any]:
        async with super().transaction(dataset) as transaction:
            yield transaction
            self._crash("before")
        self._crash("after")

    def _crash(self, here: str) -> None:
        if self.crash == here:
            self.crash = ""
            raise Crash


@dataclass
class RecordingBus:
    """A bus that records published events."""

    facts: list[Event] = field(default_factory=list)

    async def publish(self, events: Iterable[Event]) -> None:
        self.facts += events


@dataclass
class Etl:
    """One or several processes of etl, as `processes` writers of one database."""

    pool: Pool
    dataset: Dataset
    store: Ticking = field(default_factory=Ticking)
    bus: RecordingBus = field(default_factory=RecordingBus)
    uploads: dict[tuple[str, str], Upload] = field(default_factory=dict)
    history: list[ObjectChanged] = field(default_factory=list)
    undelivered: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = EtlSettings(etl_large_bytes=LARGE_BYTES, etl_slice=2, etl_rejects_kept=100)
        datasets = Datasets({self.dataset.name: self.dataset})
        queue, work = (WorkQueue(self.pool, f"{self.dataset.name}.{name}") for name in ("files", "loads"))
        self.queue, self.work = queue, work
        self.tables = Crashing(self.pool, max_stored_rejects=settings.etl_rejects_kept)
        bucket, loads = Bucket(self.store, settings), Loads(self.pool, work)
        self.loader = Loader(datasets, bucket, self.tables, loads, queue, settings)
        self.files = FileLoads(self.loader, LargeFiles(self.store, settings), self.bus)  # type: ignore[arg-type]
        self.loads = FullLoads(self.loader, queue, self.bus)  # type: ignore[arg-type]

    async def clear(self) -> None:
        """Let nothing be known."""
        await self.pool.execute(f'TRUNCATE etl."{self.dataset.name}"')
        await self.pool.execute("DELETE FROM etl.sources WHERE dataset = $1", self.dataset.name)
        await self.pool.execute("DELETE FROM work.items WHERE queue = ANY($1)", [self.queue.name, self.work.name])

    async def put(self, upload: Upload) -> int:
        """Store an object; return the number of its event, not delivered yet."""
        info = await self.store.put(ObjectRef(BUCKET, self._key(upload.name)), upload.body)
        self.uploads[self._key(upload.name), info.etag] = upload
        return self._happened("stored", upload.name, etag=info.etag, size=info.size)

    async def remove(self, name: str) -> int:
        """Remove an object, there or not."""
        await self.store.delete(ObjectRef(BUCKET, self._key(name)))
        return self._happened("removed", name)

    def _happened(self, change: Any, name: str, **described: Any) -> int:
        number = len(self.history)
        correlation_id = hashlib.md5(f"{number}".encode(), usedforsecurity=False).hexdigest()
        self.history.append(
            ObjectChanged(
                change=change,
                bucket=BUCKET,
                key=self._key(name),
                revision=number + 1,
                correlation_id=correlation_id,
                **described,
            )
        )
        self.undelivered.append(number)
        return number

    def _key(self, name: str) -> str:
        return self.dataset.prefix + name

    async def deliver(self, numbers: Sequence[int]) -> None:
        """Hand events over as one batch; a crash leaves them to be given again."""
        batch = [Received(event, record_of(event)) for event in (self.history[number] for number in numbers)]
        facts = await handlers.load_objects(batch, self.loader)
        await self.bus.publish(facts)
        self.undelivered = [one for one in self.undelivered if one not in numbers]

    async def work_on(self) -> None:
        """Do what leased work there is; what crashes is given back."""
        while items := await self.queue.claim("worker", 4):
            for item in items:
                try:
                    await self.files.load(Lease(item))
                except Crash:
                    await self.queue.release(item)
                else:
                    await self.queue.complete(item)

    async def load(self, name: str) -> None:
        """Do a full load, with a worker beside it; one that crashes is taken over."""
        await self.loader.loads.request(EtlRequested(load_id=name, dataset=self.dataset.name), why="requested")
        for item in await self.work.claim("worker", 1):
            full = asyncio.ensure_future(self.loads.load(Lease(item)))
            while not full.done():
                await self.work_on()
                await asyncio.sleep(0.001)
            await full
            await self.work.complete(item)

    def stored(self) -> list[Stored]:
        """Return what the bucket holds."""
        versions = [
            versions[-1] for versions in self.store._buckets[BUCKET].values() if versions and versions[-1] is not None
        ]
        infos = [one.info for one in versions]
        return [(one.ref.key, one.last_modified.timestamp(), self.uploads[one.ref.key, one.etag]) for one in infos]

    def etags(self) -> dict[str, str]:
        """Return the etag of all that the bucket holds."""
        versions = self.store._buckets[BUCKET].values()
        return {one[-1].info.ref.key: one[-1].info.etag for one in versions if one and one[-1] is not None}

    def loaded(self) -> list[EtlLoaded]:
        """Return the facts about objects."""
        return [one for one in self.bus.facts if isinstance(one, EtlLoaded)]
