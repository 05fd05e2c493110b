"""Etl, wired."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.etl import handlers, workers
from services.etl.adapters.bucket import Bucket
from services.etl.adapters.exports import Exports
from services.etl.adapters.files import LargeFiles
from services.etl.adapters.loads import Loads
from services.etl.adapters.outputs import Outputs
from services.etl.adapters.planting import plant
from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.adapters.tables import Tables
from services.etl.core.datasets import Datasets
from services.etl.core.schedules import Interval
from services.etl.settings import EtlSettings
from shared.bus import Bus
from shared.postgres import open_pool
from shared.service import Resources, Service
from shared.storage import open_store
from shared.work import RetryPolicy, Worker, WorkQueue


def build_app(settings: EtlSettings) -> Service:
    """Wire etl; nothing connects before it runs. A file of datasets that cannot be used is refused here."""
    datasets = Datasets.parse(settings.etl_datasets.read_text("utf-8"), str(settings.etl_datasets))
    return Service(settings, handlers.router, partial(_open, settings, datasets))


@asynccontextmanager
async def _open(settings: EtlSettings, datasets: Datasets, bus: Bus) -> AsyncIterator[Resources]:
    # a folder of its own, for what it left half written no other service may remove
    settings = settings.model_copy(update={"state_dir": settings.state_dir / "etl"})
    await ensure_schema(settings.postgres_dsn)
    async with open_pool(settings.postgres_dsn, service="etl", max_size=12) as pool, open_store(settings) as store:
        await ensure_tables(pool, datasets)
        lease = settings.etl_lease_seconds
        files, loads, exports = (
            WorkQueue(pool, name, lease_seconds=lease) for name in ("etl.files", "etl.loads", "etl.exports")
        )
        loading = handlers.Loading(
            datasets,
            Bucket(store, settings),
            Tables(pool, rejects_kept=settings.etl_rejects_kept),
            Loads(pool, loads),
            files,
            settings,
        )
        pieces = workers.Files(loading, LargeFiles(store, settings), bus)
        full = workers.FullLoads(loading, files, bus)
        exporter = workers.Exporter(
            Exports(pool, exports, settings), Outputs(store, settings.etl_output_bucket), datasets
        )
        schedule = workers.Schedule(loading.loads, tuple(datasets.by_name), Interval.parse(settings.etl_interval))
        grace = settings.shutdown_grace / 2
        worker = partial(
            Worker,
            concurrency=2,
            retries=RetryPolicy(),
            grace=grace,
            check=store.check,
            progress=handlers.router.progress,
        )
        crew = (
            worker(files, pieces.load, concurrency=3, on_failure=pieces.give_up),
            worker(loads, full.load, on_failure=full.give_up),
            worker(exports, exporter.write),
        )
        planting = (partial(plant, pool, store, datasets),) if settings.etl_seed else ()
        loops = (schedule.run, exporter.watch, exporter.mend, *planting)
        yield Resources({"loading": loading}, (*(one.run for one in crew), *loops))
