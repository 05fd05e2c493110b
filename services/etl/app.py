"""Wire the etl service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services import catalogue
from services.etl import handlers, workers
from services.etl.adapters.bucket import Bucket
from services.etl.adapters.exports import Exports
from services.etl.adapters.large_files import LargeFiles
from services.etl.adapters.loads import Loads
from services.etl.adapters.outputs import Outputs
from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.adapters.seeding import seed_users
from services.etl.adapters.tables import Tables
from services.etl.core.datasets import Datasets
from services.etl.core.schedules import Interval
from services.etl.loading import Loader
from services.etl.settings import EtlSettings
from shared.bus import Bus
from shared.postgres import open_pool
from shared.service import Resources, Service
from shared.storage import open_store
from shared.work import RetryPolicy, Worker, WorkQueue


def build_app(settings: EtlSettings) -> Service:
    """Wire etl without connecting to anything; raise InvalidDatasets if the dataset file is unusable."""
    text, reserved = settings.etl_datasets.read_text("utf-8"), catalogue.manifests().views
    datasets = Datasets.parse(text, str(settings.etl_datasets), reserved)
    return Service(settings, handlers.router, partial(_open, settings, datasets))


@asynccontextmanager
async def _open(settings: EtlSettings, datasets: Datasets, bus: Bus) -> AsyncIterator[Resources]:
    # etl has its own folder, so that no other service removes its unfinished uploads
    settings = settings.model_copy(update={"state_dir": settings.state_dir / "etl"})
    await ensure_schema(settings.postgres_dsn)
    async with open_pool(settings.postgres_dsn, service="etl", max_size=12) as pool, open_store(settings) as store:
        await ensure_tables(pool, datasets)
        lease = settings.etl_lease_seconds
        files, loads, exports = (
            WorkQueue(pool, name, lease_seconds=lease) for name in ("etl.files", "etl.loads", "etl.exports")
        )
        loader = Loader(
            datasets,
            Bucket(store, settings),
            Tables(pool, max_stored_rejects=settings.etl_rejects_kept),
            Loads(pool, loads),
            files,
            settings,
        )
        file_loads = workers.FileLoads(loader, LargeFiles(store, settings), bus)
        full_loads = workers.FullLoads(loader, files, bus)
        exporter = workers.Exporter(
            Exports(pool, exports, settings), Outputs(store, settings.etl_output_bucket), datasets
        )
        schedule = workers.Schedule(loader.loads, tuple(datasets.by_name), Interval.parse(settings.etl_interval))
        grace = settings.shutdown_grace / 2
        worker = partial(
            Worker,
            concurrency=2,
            retries=RetryPolicy(),
            grace=grace,
            check=store.check,
            progress=bus.progress,
        )
        queue_workers = (
            worker(files, file_loads.load, concurrency=3, on_failure=file_loads.on_failure),
            worker(loads, full_loads.load, on_failure=full_loads.on_failure),
            worker(exports, exporter.write),
        )
        seeding = (partial(seed_users, pool, store, datasets),) if settings.etl_seed else ()
        loops = (schedule.run, exporter.watch, exporter.repair, *seeding)
        yield Resources({"loader": loader}, (*(each.run for each in queue_workers), *loops))
