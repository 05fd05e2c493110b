"""Etl on a real Postgres, with its bucket and its broker in memory."""

import asyncio
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from services.etl import handlers
from services.etl.adapters.bucket import Bucket
from services.etl.adapters.large_files import LargeFiles
from services.etl.adapters.loads import Loads
from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.adapters.tables import Tables
from services.etl.core.datasets import Dataset, Datasets
from services.etl.loading import Loader
from services.etl.settings import EtlSettings
from services.etl.workers import FileLoads, FullLoads
from shared.errors import PenstockError
from shared.events import EtlCompleted, EtlLoaded, EtlRequested, ObjectChanged, ObjectHashed
from shared.postgres import Pool, migrate, open_pool
from shared.storage import ObjectRef
from shared.testing.bus import Wired, connected, record_of, wire
from shared.testing.objects import MemoryStore
from shared.work import Lease, WorkQueue

BUCKET = "src-data"
USERS = """
[{name}]
bucket = "src-data"
prefix = "{prefix}"
key = "user_id"
images = ["png", "jpg", "jpeg", "webp", "gif"]
born = "birthts"

[{name}.columns]
first_name = {{ type = "text", required = true }}
last_name = {{ type = "text", required = true }}
birthts = {{ type = "milliseconds", required = true, min = 1900-01-01, max = "today" }}
"""

HASHED = """
INSERT INTO hasher.digests AS mine (bucket, key, etag, digests, revision, correlation_id, status)
VALUES ($1, $2, $3, $4, $5, $6, 'succeeded')
ON CONFLICT (bucket, key, version_id) DO UPDATE SET
    etag = excluded.etag, digests = excluded.digests, revision = excluded.revision
WHERE mine.revision <= excluded.revision
"""


@dataclass
class Etl:
    """One process of etl; several of one `name` and `store` share what they know."""

    pool: Pool
    settings: EtlSettings
    store: MemoryStore
    name: str
    columns: str = ""
    revision: int = 0

    def __post_init__(self) -> None:
        self.wired: Wired = wire(self.settings, handlers.router)
        self.datasets = Datasets.parse(USERS.format(name=self.name, prefix=f"{self.name}/") + self.columns)
        # queues of their own: tests share a database
        self.file_queue, self.load_queue = (WorkQueue(self.pool, f"{self.name}.{one}") for one in ("files", "loads"))
        tables = Tables(self.pool, max_stored_rejects=self.settings.etl_rejects_kept)
        loads = Loads(self.pool, self.load_queue)
        bucket = Bucket(self.store, self.settings)
        self.loader = Loader(self.datasets, bucket, tables, loads, self.file_queue, self.settings)
        self.large = FileLoads(self.loader, LargeFiles(self.store, self.settings), self.wired.bus)
        self.full = FullLoads(self.loader, self.file_queue, self.wired.bus)
        self.wired.attach(loader=self.loader)

    @property
    def dataset(self) -> Dataset:
        return self.datasets.by_name[self.name]

    def key(self, name: str) -> str:
        return f"{self.name}/{name}"

    async def put(self, name: str, body: bytes) -> ObjectChanged:
        """Store an object; return the fact about it."""
        info = await self.store.put(ObjectRef(BUCKET, self.key(name)), body)
        return self.change("stored", name, etag=info.etag, size=info.size)

    async def remove(self, name: str) -> ObjectChanged:
        """Remove an object; return the fact about it."""
        await self.store.delete(ObjectRef(BUCKET, self.key(name)))
        return self.change("removed", name)

    def change(self, change: str, name: str, **more: Any) -> ObjectChanged:
        self.revision += 1
        said = {"revision": self.revision, "correlation_id": f"{self.revision:032x}", **more}
        return ObjectChanged(change=change, bucket=BUCKET, key=self.key(name), **said)

    async def deliver(self, *events: Any) -> None:
        """Hand over events of one topic as one batch."""
        await self.wired.deliver(*map(record_of, events))

    async def hashed(self, change: ObjectChanged, **digests: str) -> None:
        """Store digests of a version as the hasher does, then deliver its fact."""
        object_key = (change.bucket, change.key)
        await self.pool.execute(HASHED, *object_key, change.etag, digests, change.revision, change.correlation_id)
        said = change.model_dump(include={"bucket", "key", "etag", "size", "revision", "correlation_id"})
        await self.deliver(ObjectHashed(**said, digests=digests))

    async def work(self) -> list[Lease]:
        """Do the slices and large files that wait; return their leases."""
        done = []
        while items := await self.file_queue.claim("test", 10):
            for item in items:
                lease = Lease(item)
                done.append(lease)
                try:
                    await self.large.load(lease)
                except PenstockError as error:
                    await self.file_queue.fail(item, str(error), retry_in=None)
                else:
                    await self.file_queue.complete(item)
        return done

    async def load(self) -> EtlCompleted:
        """Ask for a full load, and do it."""
        await self.deliver(EtlRequested(load_id=uuid.uuid4().hex, dataset=self.name))
        return await self.work_on_load()

    async def work_on_load(self) -> EtlCompleted:
        """Do the load that was asked for."""
        (item,) = await self.load_queue.claim("test")
        loading = asyncio.ensure_future(self.full.load(Lease(item)))
        while not loading.done():
            await self.work()
            await asyncio.wait((loading,), timeout=0.01)
        await loading
        await self.load_queue.complete(item)
        return self.wired.recorder.events(EtlCompleted)[-1]

    def facts(self) -> list[EtlLoaded]:
        return self.wired.recorder.events(EtlLoaded)

    async def rows(self) -> dict[str, tuple[Any, ...]]:
        """Return the view: names, birth and image by user."""
        rows = await self.pool.fetch(f'select * from api."{self.name}"')  # noqa: S608
        return {row["user_id"]: (row["first_name"], row["last_name"], row["birthts"], row["img_path"]) for row in rows}

    async def rejects(self) -> list[tuple[str, int, str]]:
        rows = await self.pool.fetch(
            "select key, row, code from api.rejects where dataset = $1 order by 1, 2", self.name
        )
        return [(row["key"].removeprefix(f"{self.name}/"), row["row"], row["code"]) for row in rows]

    async def changed(self) -> int:
        """Return how many changes the exporter was notified of."""
        return int(await self.pool.fetchval("select changed from etl.exports where dataset = $1", self.name))


@asynccontextmanager
async def etl_on(env, store=None, name="", columns="", **settings):
    """Run etl on the database of `env`, over a bucket in memory."""
    configured = EtlSettings(postgres_dsn=env["PENSTOCK_POSTGRES_DSN"], **settings)
    await migrate(configured.postgres_dsn, "hasher", "services.hasher.migrations")  # its view has the digests
    await ensure_schema(configured.postgres_dsn)
    async with open_pool(configured.postgres_dsn, service="test") as pool:
        made = Etl(pool, configured, store or MemoryStore(BUCKET), name or f"u{uuid.uuid4().hex[:10]}", columns)
        await ensure_tables(pool, made.datasets)
        async with connected(made.wired):
            yield made
