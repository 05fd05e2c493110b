"""The store in memory keeps what the real one promises: the same tests on both."""

import hashlib
import uuid
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr

from shared.errors import Rejected
from shared.settings import Settings
from shared.storage import ABSENT, PRESENT, ObjectGone, ObjectRef, ObjectSuperseded, open_store
from shared.storage.multipart import MIN_PART_BYTES
from shared.testing.objects import MemoryStore
from tests.support.s3 import s3_client

pytestmark = pytest.mark.integration


@pytest.fixture(params=["memory", "memory with versions", "real", "real with versions"])
async def promised(request):
    """Return a store, a bucket in it, and whether it keeps versions."""
    versioned = request.param.endswith("versions")
    bucket = f"promises-{uuid.uuid4().hex[:12]}"
    if request.param.startswith("memory"):
        yield MemoryStore(bucket, versioned=versioned), bucket, versioned
        return
    env = request.getfixturevalue("servers").env
    settings = Settings(
        s3_endpoint=env["PENSTOCK_S3_ENDPOINT"],
        s3_access_key=env["PENSTOCK_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(env["PENSTOCK_S3_SECRET_KEY"]),
    )
    make_bucket(env, bucket, versioned=versioned)
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open_store(settings)), bucket, versioned


def make_bucket(env, bucket, *, versioned):
    boto = s3_client(env)
    boto.create_bucket(Bucket=bucket)
    if versioned:
        boto.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    boto.close()


async def read_stream(store, ref, **options):
    async with store.stream(ref, **options) as chunks:
        return [bytes(chunk) async for chunk in chunks]


async def keys(store, bucket, **options):
    return [info.ref.key async for page in store.list(bucket, **options) for info in page]


async def test_what_was_put_is_described_and_read_as_it_was(promised):
    store, bucket, versioned = promised
    ref = ObjectRef(bucket, "a b+é")
    put = await store.put(ref, b"hello", metadata={"colour": "red"}, content_type="text/plain")
    info, body = await store.read(ref, etag=put.etag)
    assert (body, info.size, info.content_type, info.metadata) == (b"hello", 5, "text/plain", {"colour": "red"})
    assert info.etag == hashlib.md5(b"hello", usedforsecurity=False).hexdigest()
    assert (info.ref.version_id is not None) == versioned
    assert (await store.head(ref)).etag == put.etag


async def test_the_beginning_is_read_with_what_is_known_of_the_whole(promised):
    store, bucket, _ = promised
    ref = ObjectRef(bucket, "a")
    put = await store.put(ref, b"0123456789")
    for end, beginning in ((4, b"0123"), (10, b"0123456789"), (99, b"0123456789")):
        info, body = await store.read(ref, end=end)
        assert (body, info.size, info.etag) == (beginning, 10, put.etag)
    with pytest.raises(ObjectSuperseded):
        await store.read(ref, end=4, etag="another")
    await store.put(ref, b"")
    with pytest.raises(Rejected) as refused:
        await store.read(ref, end=4)
    assert refused.value.code == "RANGE_PAST_END"


async def test_a_stream_is_the_range_in_chunks(promised):
    store, bucket, _ = promised
    ref = ObjectRef(bucket, "a")
    await store.put(ref, b"0123456789")
    assert b"".join(await read_stream(store, ref)) == b"0123456789"
    assert b"".join(await read_stream(store, ref, start=3, end=7, chunk_size=2)) == b"3456"


async def test_what_is_not_there_is_gone(promised):
    store, bucket, _ = promised
    ref = ObjectRef(bucket, "nothing")
    for attempt in (store.head(ref), store.read(ref), read_stream(store, ref)):
        with pytest.raises(ObjectGone):
            await attempt
    await store.delete(ref)


async def test_what_was_overwritten_is_superseded(promised):
    store, bucket, _ = promised
    ref = ObjectRef(bucket, "a")
    before = await store.put(ref, b"one")
    await store.put(ref, b"other")
    for attempt in (store.read(ref, etag=before.etag), read_stream(store, ref, etag=before.etag)):
        with pytest.raises(ObjectSuperseded):
            await attempt


async def test_listings_are_in_key_order_and_hold_current_objects_only(promised):
    store, bucket, _ = promised
    for key in ("b", "a/2", "a/1", "😀", "\uffee", "gone"):
        await store.put(ObjectRef(bucket, key), b"x")
    await store.delete(ObjectRef(bucket, "gone"))
    assert await keys(store, bucket) == ["a/1", "a/2", "b", "\uffee", "😀"]
    assert await keys(store, bucket, prefix="a/") == ["a/1", "a/2"]
    assert await keys(store, bucket, start_after="a/1") == ["a/2", "b", "\uffee", "😀"]
    assert [page async for page in store.list(bucket, prefix="none") if page] == []


async def test_a_version_outlives_its_successor_and_its_removal(promised):
    store, bucket, versioned = promised
    ref = ObjectRef(bucket, "a")
    first = await store.put(ref, b"one")
    await store.put(ref, b"other")
    await store.delete(ref)
    with pytest.raises(ObjectGone):
        await store.head(ref)
    if versioned:
        assert (await store.read(first.ref))[1] == b"one"
        await store.delete(first.ref)
    with pytest.raises(ObjectGone):
        await store.head(first.ref)


async def test_a_bucket_that_is_not_there_is_refused(promised):
    store, _, _ = promised
    with pytest.raises(Rejected, match="no-such-bucket"):
        await store.read(ObjectRef("no-such-bucket", "a"))


async def test_an_upload_in_parts_is_an_object_once_it_is_completed(promised):
    store, bucket, _ = promised
    ref = ObjectRef(bucket, "a b+é")
    headers = {"content-type": "text/plain", "x-amz-meta-colour": "red"}
    async with store.begin_upload(ref, headers) as upload_id:
        assert await store.uploads.parts(ref, upload_id) == []
    bodies = bytes(MIN_PART_BYTES), b"end"
    sent = [
        await store.uploads.send(ref, upload_id, number, body, size=len(body))
        for number, body in enumerate((b"replaced", *bodies[1:]), 1)
    ]
    sent[0] = await store.uploads.send(ref, upload_id, 1, bodies[0], size=MIN_PART_BYTES)
    listed = await store.uploads.parts(ref, upload_id)
    assert [(one.number, one.size) for one in listed] == [(1, MIN_PART_BYTES), (2, 3)]
    with pytest.raises(ObjectGone):
        await store.head(ref)
    await store.uploads.complete(ref, upload_id, listed)
    info, body = await store.read(ref)
    assert (body, info.content_type, info.metadata) == (b"".join(bodies), "text/plain", {"colour": "red"})
    with pytest.raises(ObjectGone):
        await store.uploads.parts(ref, upload_id)


async def test_an_upload_that_is_aborted_leaves_nothing(promised):
    store, bucket, _ = promised
    ref = ObjectRef(bucket, "a")
    upload_id = await store.uploads.begin(ref, {})
    await store.uploads.send(ref, upload_id, 1, b"x", size=1)
    await store.uploads.abort(ref, upload_id)
    await store.uploads.abort(ref, upload_id)
    for attempt in (
        store.uploads.parts(ref, upload_id),
        store.uploads.complete(ref, upload_id, []),
        store.uploads.send(ref, upload_id, 2, b"x", size=1),
        store.head(ref),
    ):
        with pytest.raises((ObjectGone, Rejected)):
            await attempt


async def write(store, ref, body, **options):
    async with store.write(ref, **options) as writer:
        await writer.write(body)
    return writer.info


@pytest.mark.parametrize("size", [3, MIN_PART_BYTES + 1], ids=["small", "in parts"])
async def test_what_is_written_where_nothing_is_replaces_nothing(promised, size):
    store, bucket, _ = promised
    ref = ObjectRef(bucket, "a")
    first = await write(store, ref, bytes(size), if_match=ABSENT)
    with pytest.raises(ObjectSuperseded):
        await write(store, ref, b"x" * size, if_match=ABSENT)
    await write(store, ref, b"y" * size, if_match=first.etag)
    with pytest.raises(ObjectSuperseded):
        await write(store, ref, b"z" * size, if_match=first.etag)
    assert (await store.read(ref))[1] == b"y" * size
    await store.delete(ref)
    for gone in (first.etag, PRESENT):
        with pytest.raises(ObjectSuperseded):
            await write(store, ref, b"z" * size, if_match=gone)
    await write(store, ref, bytes(size), if_match=ABSENT)
    await write(store, ref, b"z" * size, if_match=PRESENT)
    assert (await store.read(ref))[1] == b"z" * size


@pytest.mark.parametrize("size", [3, MIN_PART_BYTES + 1], ids=["small", "in parts"])
@pytest.mark.parametrize("keep_checksum", [True, False])
async def test_what_is_said_of_an_object_is_kept_and_a_checksum_where_one_is_wanted(promised, size, keep_checksum):
    store, bucket, _ = promised
    ref = ObjectRef(bucket, "a")
    headers = {"content-encoding": "gzip", "cache-control": "no-cache", "content-disposition": "attachment"}
    said = {"headers": headers, "metadata": {"title": "Größe 日本"}, "content_type": "text/csv"}
    await write(store, ref, bytes(size), keep_checksum=keep_checksum, **said)
    found = await store.head(ref)
    assert (found.headers, found.metadata, found.content_type) == (headers, said["metadata"], "text/csv")
    assert list(found.checksums) == (["crc64nvme"] if keep_checksum else [])
