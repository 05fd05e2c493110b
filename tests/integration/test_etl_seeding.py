"""The users to begin with are put once, where nobody has put anything yet."""

import asyncio
import uuid
from contextlib import AsyncExitStack
from types import SimpleNamespace

import boto3
import pytest
from pydantic import SecretStr

from services.etl.adapters.schema import ensure_schema
from services.etl.adapters.seeding import seed_users
from services.etl.core.datasets import Dataset, Datasets
from services.etl.settings import EtlSettings
from shared.postgres import open_pool
from shared.storage import ObjectRef, open_store

pytestmark = pytest.mark.integration

TEXT = {"type": "text"}
COLUMNS = {"first_name": TEXT, "last_name": TEXT, "birthts": {"type": "milliseconds"}}


@pytest.fixture
async def garden(stack, tmp_path):
    bucket = f"garden-{uuid.uuid4().hex[:10]}"
    settings = EtlSettings(
        s3_endpoint=stack.env["PENSTOCK_S3_ENDPOINT"],
        s3_access_key=stack.env["PENSTOCK_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(stack.env["PENSTOCK_S3_SECRET_KEY"]),
        postgres_dsn=SecretStr(stack.env["PENSTOCK_POSTGRES_DSN"]),
        state_dir=tmp_path,
    )
    boto = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        region_name="us-east-1",
    )
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


async def keys(garden):
    return {info.ref.key async for page in garden.store.list(garden.bucket) for info in page}


async def test_processes_that_start_together_put_a_hundred_pairs(garden):
    await asyncio.gather(*(seed_users(garden.pool, garden.store, users(garden.bucket)) for _ in range(3)))
    assert await keys(garden) == {f"in/{user}.{ending}" for user in range(1000, 1100) for ending in ("csv", "png")}
    info, body = await garden.store.read(ObjectRef(garden.bucket, "in/1000.png"))
    assert (info.content_type, body[:4]) == ("image/png", b"\x89PNG")


async def test_a_place_that_holds_something_is_left_alone(garden):
    await garden.store.put(ObjectRef(garden.bucket, "in/mine.csv"), b"x")
    await seed_users(garden.pool, garden.store, users(garden.bucket))
    assert await keys(garden) == {"in/mine.csv"}


async def test_a_place_that_was_emptied_stays_empty(garden):
    await garden.pool.execute(
        "INSERT INTO etl.sources (bucket, key, dataset, kind) VALUES ($1, 'in/1000.csv', 'users', 'rows')",
        garden.bucket,
    )
    await seed_users(garden.pool, garden.store, users(garden.bucket))
    assert await keys(garden) == set()


@pytest.mark.parametrize("changed", [{"name": "people"}, {"columns": {"first_name": TEXT}}])
async def test_other_datasets_get_no_users(garden, changed):
    await seed_users(garden.pool, garden.store, users(garden.bucket, **changed))
    assert await keys(garden) == set()


async def test_a_bucket_that_is_not_there_stops_nobody(garden):
    await seed_users(garden.pool, garden.store, users("no-such-bucket"))
    assert await keys(garden) == set()
