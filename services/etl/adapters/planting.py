"""The users to begin with, put once into a place that is as empty as their table."""

import asyncio

import structlog

from services.etl.core.datasets import Dataset, Datasets
from services.etl.core.seeds import COLUMNS, Seed, seeds
from shared.errors import Rejected, one_line
from shared.outages import retry_outages
from shared.postgres import Pool
from shared.storage import ObjectRef, ObjectStore

log = structlog.get_logger()

DATASET = "users"


async def plant(pool: Pool, store: ObjectStore, datasets: Datasets) -> None:
    """Put 100 users where nobody has put anything yet; several processes put the same ones."""
    dataset = datasets.by_name.get(DATASET)
    if dataset is None or tuple(dataset.columns) != COLUMNS:
        return
    try:
        if await retry_outages(lambda: _is_bare(pool, store, dataset)):
            planted = list(seeds())
            await retry_outages(lambda: _put(store, dataset, planted))
            log.info("seeds.planted", dataset=dataset.name, users=len(planted))
    except Rejected as refusal:
        log.warning("seeds.not_planted", reason=one_line(refusal))


async def _is_bare(pool: Pool, store: ObjectStore, dataset: Dataset) -> bool:
    question = "SELECT EXISTS (SELECT FROM etl.sources WHERE dataset = $1 AND bucket = $2)"
    if await pool.fetchval(question, dataset.name, dataset.bucket):
        return False
    async for page in store.list(dataset.bucket, prefix=dataset.prefix, page_size=1):
        if page:
            return False
    return True


async def _put(store: ObjectStore, dataset: Dataset, planted: list[Seed]) -> None:
    files = [
        (ObjectRef(dataset.bucket, f"{dataset.prefix}{seed.user_id}.{ending}"), body, content_type)
        for seed in planted
        for ending, body, content_type in (("csv", seed.row, "text/csv"), ("png", seed.picture, "image/png"))
    ]
    await asyncio.gather(*(store.put(ref, body, content_type=content_type) for ref, body, content_type in files))
