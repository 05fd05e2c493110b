"""The whole way on real servers: an object dropped into a bucket gets its digests, in the view and on the topic."""

import hashlib
import time

import asyncpg
import boto3
import pytest

pytestmark = pytest.mark.integration


def s3_of(stack):
    return boto3.client(
        "s3",
        endpoint_url=stack.env["PENSTOCK_S3_ENDPOINT"],
        aws_access_key_id=stack.env["PENSTOCK_S3_ACCESS_KEY"],
        aws_secret_access_key=stack.env["PENSTOCK_S3_SECRET_KEY"],
        region_name="us-east-1",
    )


async def test_a_dropped_object_is_hashed(stack):
    stack.start_service("ingest")
    stack.start_service("hasher")
    s3_of(stack).put_object(Bucket="inbox", Key="a b+c/ü.txt", Body=b"hello")
    connection = await asyncpg.connect(stack.env["PENSTOCK_POSTGRES_DSN"])
    deadline = time.monotonic() + 20
    row = None
    while row is None and time.monotonic() < deadline:
        row = await connection.fetchrow("select * from api.digests where key = 'a b+c/ü.txt'")
    print(dict(row) if row else None)
    assert row is not None, stack.logs("ingest") + stack.logs("hasher")
    assert hashlib.md5(b"hello").hexdigest() in row["digests"]
