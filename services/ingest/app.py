"""Wiring of ingest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.ingest import handlers, workers
from services.ingest.adapters.bucket import Bucket
from services.ingest.adapters.known_objects import KnownObjects
from services.ingest.merging import Merger
from services.ingest.settings import IngestSettings
from shared.bus import Bus
from shared.postgres import migrate, open_pool
from shared.service import Resources, Service
from shared.storage import open_store
from shared.work import MIGRATIONS, RetryPolicy, Worker, WorkQueue


def build_app(settings: IngestSettings) -> Service:
    """Wire ingest without connecting to anything."""
    return Service(settings, handlers.router, partial(_open, settings))


@asynccontextmanager
async def _open(settings: IngestSettings, bus: Bus) -> AsyncIterator[Resources]:
    await migrate(settings.postgres_dsn, "work", MIGRATIONS)
    await migrate(settings.postgres_dsn, "ingest", "services.ingest.migrations")
    async with open_pool(settings.postgres_dsn, service="ingest") as pool, open_store(settings) as store:
        describe = not settings.ingest_trust_notifications
        known_objects, bucket = (
            KnownObjects(pool),
            Bucket(store, in_flight=settings.lookups_in_flight, describe=describe),
        )
        queue = WorkQueue(pool, "sweep")
        merger = Merger(known_objects, bucket, bus, queue, settings)
        sweeper = workers.Sweeper(known_objects, bucket, bus, queue, settings)
        worker = Worker(
            queue,
            sweeper.sweep,
            concurrency=1,
            retries=RetryPolicy(),
            grace=settings.shutdown_grace / 2,
            check=store.check,
            progress=bus.progress,
        )
        yield Resources(
            {"merger": merger, "sweeps": queue, "settings": settings},
            (
                worker.run,
                sweeper.schedule,
                sweeper.sweep_after_outages,
                workers.PendingVerifications(known_objects, merger, bus).run,
                partial(workers.limit_readers, pool),
                partial(workers.apply_rules, settings),
            ),
        )
