"""The whole way on real servers: an object that any S3 client drops gets its digests, in the view and on the topic."""

import asyncio
import io
import json
from urllib.parse import urlsplit

import pytest
from minio import Minio

from shared.settings import Settings
from shared.storage.rich import open_client
from shared.topics import OBJECTS_HASHED
from tests.support.world import digests_of, opened

pytestmark = pytest.mark.integration

BODY = b"the same bytes, whoever brings them"
NAME = "a b+c/ü.txt"


@pytest.fixture(scope="module")
def world(stack):
    with opened(stack, {}) as world:
        yield world
    for name in ("ingest", "hasher"):
        stack.stop(name)


def by_boto3(world, key):
    world.s3.upload_fileobj(io.BytesIO(BODY), "inbox", key)


def by_minio(world, key):
    env = world.stack.env
    client = Minio(
        urlsplit(env["PENSTOCK_S3_ENDPOINT"]).netloc,
        access_key=env["PENSTOCK_S3_ACCESS_KEY"],
        secret_key=env["PENSTOCK_S3_SECRET_KEY"],
        secure=False,
    )
    client.put_object("inbox", key, io.BytesIO(BODY), len(BODY))


def by_aiobotocore(world, key):
    env = world.stack.env

    async def put():
        settings = Settings(
            s3_endpoint=env["PENSTOCK_S3_ENDPOINT"],
            s3_access_key=env["PENSTOCK_S3_ACCESS_KEY"],
            s3_secret_key=env["PENSTOCK_S3_SECRET_KEY"],
        )
        async with open_client(settings) as client:
            await client.put_object(Bucket="inbox", Key=key, Body=BODY)

    asyncio.run(put())


@pytest.mark.parametrize("put", [by_boto3, by_minio, by_aiobotocore])
def test_a_dropped_object_is_hashed(world, put):
    name = f"{put.__name__}/{NAME}"
    put(world, world.prefix + name)
    row = world.hashed(name)
    assert json.loads(row["digests"]) == digests_of(BODY)
    assert row["size"] == len(BODY)
    (fact,) = world.facts(OBJECTS_HASHED.name, name)
    assert fact.body["digests"] == digests_of(BODY)
    assert fact.body["etag"] == row["etag"]
