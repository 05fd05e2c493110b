"""Seed an empty bucket with made-up users, once."""

import asyncio

import structlog

from services.etl.adapters.seeds import COLUMNS, SeedUser, generate_users
from services.etl.core.datasets import Dataset, Datasets
from shared.errors import Rejected, one_line
from shared.outages import retry_outages
from shared.postgres import Pool
from shared.storage import ObjectRef, ObjectStore

log = structlog.get_logger()

DATASET = "users"


async def seed_users(pool: Pool, store: ObjectStore, datasets: Datasets) -> None:
    """Store 100 users if bucket and table are empty; concurrent processes store the same ones."""
    dataset = datasets.by_name.get(DATASET)
    if dataset is None or tuple(dataset.columns) != COLUMNS:
        return
    try:
        if await retry_outages(lambda: _is_empty(pool, store, dataset)):
            seeded = list(generate_users())
            await retry_outages(lambda: _put(store, dataset, seeded))
            log.info("users.seeded", dataset=dataset.name, users=len(seeded))
    except Rejected as rejected:
        log.warning("users.not_seeded", reason=one_line(rejected))


async def _is_empty(pool: Pool, store: ObjectStore, dataset: Dataset) -> bool:
    query = "SELECT EXISTS (SELECT FROM etl.sources WHERE dataset = $1 AND bucket = $2)"
    if await pool.fetchval(query, dataset.name, dataset.bucket):
        return False
    async for page in store.list(dataset.bucket, prefix=dataset.prefix, page_size=1):
        if page:
            return False
    return True


async def _put(store: ObjectStore, dataset: Dataset, seeded: list[SeedUser]) -> None:
    files = [
        (ObjectRef(dataset.bucket, f"{dataset.prefix}{seed.user_id}.{ending}"), body, content_type)
        for seed in seeded
        for ending, body, content_type in (("csv", seed.row, "text/csv"), ("png", seed.image, "image/png"))
    ]
    await asyncio.gather(*(store.put(ref, body, content_type=content_type) for ref, body, content_type in files))
