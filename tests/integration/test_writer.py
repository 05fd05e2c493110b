"""An object of unknown size is there whole, or there is nothing: no object, no part, no open upload."""

import asyncio
import hashlib
import random
import subprocess
import sys
import time
import uuid
from unittest.mock import AsyncMock

import pytest
from pydantic import SecretStr

from shared.errors import Outage, Rejected
from shared.settings import Settings
from shared.storage import ObjectGone, ObjectRef, ObjectSuperseded, open_store
from shared.storage.multipart import MIN_PART_BYTES
from tests.support.s3 import s3_client

pytestmark = pytest.mark.integration

KILLED = """
import asyncio, os, sys
from shared.settings import Settings
from shared.storage import ObjectRef, open_store

async def main():
    async with open_store(Settings()) as store, store.write(ObjectRef(sys.argv[1], "killed")) as writer:
        for _ in range(12):
            await writer.write(bytes(1 << 20))
        if sys.argv[2] == "in the middle":
            os._exit(9)
        store._journal.closed = lambda entry: os._exit(9)

asyncio.run(main())
"""


@pytest.fixture
def settings(servers, tmp_path):
    return Settings(
        s3_endpoint=servers.env["PENSTOCK_S3_ENDPOINT"],
        s3_access_key=servers.env["PENSTOCK_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(servers.env["PENSTOCK_S3_SECRET_KEY"]),
        state_dir=tmp_path,
    )


@pytest.fixture
def boto(servers):
    client = s3_client(servers.env)
    yield client
    client.close()


@pytest.fixture
def bucket(boto):
    name = f"writer-{uuid.uuid4().hex[:12]}"
    boto.create_bucket(Bucket=name)
    return name


@pytest.fixture
async def store(settings):
    async with open_store(settings) as opened:
        yield opened


def assert_nothing_is_there(boto, bucket, key="a"):
    assert boto.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert boto.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", []) == []


async def write(store, ref, body, chunk=64 << 10, **options):
    async with store.write(ref, **options) as writer:
        for at in range(0, len(body), chunk):
            await writer.write(body[at : at + chunk])
    return writer.info


@pytest.mark.parametrize("size", [0, 1, MIN_PART_BYTES - 1, MIN_PART_BYTES, MIN_PART_BYTES + 1, 3 * MIN_PART_BYTES + 7])
async def test_what_was_written_is_what_is_read(store, bucket, boto, size):
    body, ref = random.Random(size).randbytes(size), ObjectRef(bucket, "a b+ü")
    info = await write(store, ref, body, metadata={"penstock-x": "1"}, content_type="text/x-odd")
    assert (info.size, info.content_type, info.metadata) == (size, "text/x-odd", {"penstock-x": "1"})
    stored = await store.head(ref)
    assert (stored.etag, stored.size, stored.content_type) == (info.etag, size, "text/x-odd")
    assert stored.metadata == {"penstock-x": "1"}
    assert "crc64nvme" in stored.checksums
    read = await asyncio.to_thread(boto.get_object(Bucket=bucket, Key=ref.key)["Body"].read)
    assert hashlib.sha256(read).digest() == hashlib.sha256(body).digest()
    assert boto.list_multipart_uploads(Bucket=bucket, Prefix=ref.key).get("Uploads", []) == []


@pytest.mark.parametrize("size", [10, MIN_PART_BYTES + 10, 3 * MIN_PART_BYTES])
async def test_a_source_that_breaks_leaves_nothing(store, bucket, boto, size):
    async def broken():
        async with store.write(ObjectRef(bucket, "a")) as writer:
            for _ in range(0, size, 1 << 20):
                await writer.write(bytes(1 << 20))
            raise ValueError("the source broke")

    with pytest.raises(ValueError, match="broke"):
        await broken()
    assert_nothing_is_there(boto, bucket)


async def test_a_cancelled_write_leaves_nothing(store, bucket, boto):
    begun = asyncio.Event()

    async def slow():
        async with store.write(ObjectRef(bucket, "a")) as writer:
            for _ in range(12):
                await writer.write(bytes(1 << 20))
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(slow())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_is_there(boto, bucket)


@pytest.mark.parametrize("limit", [MIN_PART_BYTES - 1, 2 * MIN_PART_BYTES])
async def test_more_than_is_allowed_leaves_nothing(store, bucket, boto, limit):
    with pytest.raises(Rejected) as caught:
        await write(store, ObjectRef(bucket, "a"), bytes(2 * MIN_PART_BYTES + 1), limit=limit)
    assert caught.value.code == "TOO_LARGE"
    assert_nothing_is_there(boto, bucket)


async def test_the_old_object_stays_until_the_new_one_is_whole(store, bucket):
    ref = ObjectRef(bucket, "a")
    await write(store, ref, b"old")
    with pytest.raises(Rejected):
        await write(store, ref, bytes(2 * MIN_PART_BYTES), limit=MIN_PART_BYTES)
    assert (await store.read(ref))[1] == b"old"


@pytest.mark.parametrize("size", [3, MIN_PART_BYTES + 3])
async def test_only_the_version_that_was_meant_is_replaced(store, bucket, size):
    ref = ObjectRef(bucket, "a")
    first = await write(store, ref, b"first")
    second = await write(store, ref, b"second")
    with pytest.raises(ObjectSuperseded):
        await write(store, ref, bytes(size), if_match=first.etag)
    assert (await store.read(ref))[1] == b"second"
    await write(store, ref, bytes(size), if_match=second.etag)
    assert (await store.head(ref)).size == size


async def test_a_copy_is_the_same_with_what_is_known_of_it(store, bucket):
    source, ref = ObjectRef(bucket, "a ü+"), ObjectRef(bucket, "b")
    await write(store, source, b"body", metadata={"x": "1"}, content_type="text/x-odd")
    await store.copy(source, ref)
    info, body = await store.read(ref)
    assert (body, info.metadata, info.content_type) == (b"body", {"x": "1"}, "text/x-odd")
    with pytest.raises(ObjectGone):
        await store.copy(ObjectRef(bucket, "none"), ref)


async def test_a_store_that_is_away_is_an_outage(settings, bucket):
    nowhere = settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    async with open_store(nowhere) as store:
        with pytest.raises(Outage):
            await write(store, ObjectRef(bucket, "a"), bytes(2 * MIN_PART_BYTES))


async def killed(settings, bucket, when):
    """Run a process that is killed while it writes, or between the store's completion and its own note of it."""
    env = {
        "PENSTOCK_S3_ENDPOINT": settings.s3_endpoint,
        "PENSTOCK_S3_ACCESS_KEY": settings.s3_access_key,
        "PENSTOCK_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "PENSTOCK_STATE_DIR": str(settings.state_dir),
    }
    command = [sys.executable, "-c", KILLED, bucket, when]
    assert (await asyncio.to_thread(subprocess.run, command, env=env, check=False)).returncode == 9


async def test_the_parts_of_a_killed_process_are_removed(settings, store, bucket, boto):
    on_uncertain = AsyncMock()
    await killed(settings, bucket, "in the middle")
    assert boto.list_multipart_uploads(Bucket=bucket, Prefix="killed")["Uploads"]
    async with store.write(ObjectRef(bucket, "mine")) as writer:  # an upload of the living is left alone
        for _ in range(12):
            await writer.write(bytes(1 << 20))
        assert await store.abort_abandoned(on_uncertain) == 1
    assert boto.list_multipart_uploads(Bucket=bucket, Prefix="killed").get("Uploads", []) == []
    assert (await store.head(ObjectRef(bucket, "mine"))).size == 12 << 20
    assert await store.abort_abandoned(on_uncertain) == 0
    on_uncertain.assert_not_awaited()


async def test_what_a_killed_process_may_have_completed_is_in_doubt_until_somebody_heard_of_it(settings, store, bucket):
    await killed(settings, bucket, "at the end")
    with pytest.raises(Outage):
        await store.abort_abandoned(AsyncMock(side_effect=Outage("Kafka is away")))
    on_uncertain = AsyncMock()
    for _ in range(2):
        await store.abort_abandoned(on_uncertain)
    on_uncertain.assert_awaited_once_with(ObjectRef(bucket, "killed"))


async def test_a_fast_source_is_held_to_about_one_part_in_memory(store, bucket):
    """Bytes that were taken and not yet sent, at the most; and the rate, for whoever reads the output."""
    most, size = 0, 512 << 20
    chunk = bytes(64 << 10)
    started = time.monotonic()
    async with store.write(ObjectRef(bucket, "a")) as writer:
        for _ in range(0, size, len(chunk)):
            await writer.write(chunk)
            most = max(most, writer.buffered_bytes)
    print(f"{size / (time.monotonic() - started) / 1e6:.0f} MB/s, at most {most / (1 << 20):.1f} MiB held")
    assert most <= MIN_PART_BYTES + (1 << 20)
