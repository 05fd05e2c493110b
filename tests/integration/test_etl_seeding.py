"""Users are seeded once, into an empty bucket."""

import asyncio
import uuid
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from services.etl.adapters.schema import ensure_schema
from services.etl.adapters.seeding import seed_users
from services.etl.core.datasets import Dataset, Datasets
from services.etl.settings import EtlSettings
from shared.postgres import open_pool
from shared.storage import ObjectRef, open_store
from tests.support.s3 import s3_client

pytestmark = pytest.mark.integration

TEXT = {"type": "text"}
COLUMNS = {"first_name": TEXT, "last_name": TEXT, "birthts": {"type": "milliseconds"}}


@pytest.fixture
async def seed_bucket(stack, tmp_path):
    bucket = f"seed-{uuid.uuid4().hex[:10]}"
    settings = EtlSettings(
        s3_endpoint=stack.env["PENSTOCK_S3_ENDPOINT"],
        s3_access_key=stack.env["PENSTOCK_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(stack.env["PENSTOCK_S3_SECRET_KEY"]),
        postgres_dsn=SecretStr(stack.env["PENSTOCK_POSTGRES_DSN"]),
        state_dir=tmp_path,
    )
    boto = s3_client(stack.env)
    boto.create_bucket(Bucket=bucket)
    boto.close()
    await ensure_schema(settings.postgres_dsn)
    async with AsyncExitStack() as opened:
        pool = await opened.enter_async_context(open_pool(settings.postgres_dsn, service="test"))
        store = await opened.enter_async_context(open_store(settings))
        yield SimpleNamespace(pool=pool, store=store, bucket=bucket)


def users(bucket, columns=COLUMNS, name="users"):
    dataset = Dataset.model_validate(
        {"name": name, "bucket": bucket, "prefix": "in/", "key": "user_id", "columns": columns}
    )
    return Datasets({name: dataset})


async def keys(seed_bucket):
    return {info.ref.key async for page in seed_bucket.store.list(seed_bucket.bucket) for info in page}


async def test_concurrent_processes_seed_one_hundred_users(seed_bucket):
    await asyncio.gather(
        *(seed_users(seed_bucket.pool, seed_bucket.store, users(seed_bucket.bucket)) for _ in range(3))
    )
    assert await keys(seed_bucket) == {f"in/{user}.{ending}" for user in range(1000, 1100) for ending in ("csv", "png")}
    info, body = await seed_bucket.store.read(ObjectRef(seed_bucket.bucket, "in/1000.png"))
    assert (info.content_type, body[:4]) == ("image/png", b"\x89PNG")


async def test_nonempty_bucket_is_not_seeded(seed_bucket):
    await seed_bucket.store.put(ObjectRef(seed_bucket.bucket, "in/mine.csv"), b"x")
    await seed_users(seed_bucket.pool, seed_bucket.store, users(seed_bucket.bucket))
    assert await keys(seed_bucket) == {"in/mine.csv"}


async def test_emptied_bucket_is_not_seeded_again(seed_bucket):
    await seed_bucket.pool.execute(
        "INSERT INTO etl.sources (bucket, key, dataset, kind) VALUES ($1, 'in/1000.csv', 'users', 'rows')",
        seed_bucket.bucket,
    )
    await seed_users(seed_bucket.pool, seed_bucket.store, users(seed_bucket.bucket))
    assert await keys(seed_bucket) == set()


@pytest.mark.parametrize("changed", [{"name": "people"}, {"columns": {"first_name": TEXT}}])
async def test_other_datasets_are_not_seeded(seed_bucket, changed):
    await seed_users(seed_bucket.pool, seed_bucket.store, users(seed_bucket.bucket, **changed))
    assert await keys(seed_bucket) == set()


async def test_missing_bucket_is_not_an_error(seed_bucket):
    await seed_users(seed_bucket.pool, seed_bucket.store, users("no-such-bucket"))
    assert await keys(seed_bucket) == set()
