"""Wiring of the hasher."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.hasher import handlers, workers
from services.hasher.adapters.ledger import DigestLedger
from services.hasher.adapters.objects import ObjectDigester
from services.hasher.hashing import Hashing
from services.hasher.settings import HasherSettings
from shared.bus import Bus
from shared.digests import normalize_names
from shared.postgres import migrate, open_pool
from shared.service import Resources, Service
from shared.storage import open_store
from shared.work import MIGRATIONS, RetryPolicy, Worker, WorkQueue


def build_app(settings: HasherSettings) -> Service:
    """Wire the hasher without connecting to anything. Raises Rejected for an unknown digest in the settings."""
    normalize_names(settings.hasher_digests)
    return Service(settings, handlers.router, partial(_open, settings))


@asynccontextmanager
async def _open(settings: HasherSettings, bus: Bus) -> AsyncIterator[Resources]:
    await migrate(settings.postgres_dsn, "work", MIGRATIONS)
    await migrate(settings.postgres_dsn, "hasher", "services.hasher.migrations")
    async with open_pool(settings.postgres_dsn, service="hasher") as pool, open_store(settings) as store:
        queue = WorkQueue(pool, "digest", lease_seconds=settings.hasher_lease_seconds)
        hashing = Hashing(DigestLedger(pool), ObjectDigester(store, settings), queue, settings)
        large = workers.LargeObjectWorker(hashing, bus)
        worker = Worker(
            queue,
            large.digest,
            concurrency=settings.hasher_large_in_flight,
            retries=RetryPolicy(),
            grace=settings.shutdown_grace / 2,
            on_failure=large.on_failure,
            check=store.check,
            progress=bus.progress,
        )
        yield Resources({"hashing": hashing}, (worker.run,))
