import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
import unicodedata
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from awscrt import checksums
from botocore.config import Config
from pydantic import SecretStr

from shared.errors import Outage, Rejected
from shared.settings import Settings
from shared.storage import ObjectGone, ObjectRef, ObjectStore, ObjectSuperseded, open_store
from tests.support.s3 import s3_client

pytestmark = pytest.mark.integration

PLAIN, ODD = "plain/key", "ctl\x1b/key"

KEYS = [
    "a b",
    "a+b",
    "a%2Bb",
    "a%b",
    "q?x=1&y#z",
    "\"q\" 'q' <>&",
    "emoji 😀",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "-rf",
    "$(id);id",
    "back\\slash",
    ".../...",
    " lead and trail ",
    " ",
    "\u202ertl \u2028 \ufffe",
    "c1\x85",
    "tab\tx",
    "line\nfeed\r",
    "esc\x1b[2J",
    "\x01\x7f",
    "folder/",
    "/".join(["d" * 203] * 5) + "12345",
]
REFUSED = [
    "a//b",
    "folder//",
    "../x",
    "./x",
    "a/../b",
    "a/./b",
    ".",
    "..",
    "back\\..\\x",
    "nul\x00",
    "x" * 256,
    "é" * 513,
]


def settings(env: dict[str, str], **changes: object) -> Settings:
    return Settings(
        **{
            "s3_endpoint": env["PENSTOCK_S3_ENDPOINT"],
            "s3_access_key": env["PENSTOCK_S3_ACCESS_KEY"],
            "s3_secret_key": SecretStr(env["PENSTOCK_S3_SECRET_KEY"]),
            **changes,
        }
    )


@pytest.fixture(scope="module")
def boto(servers):
    client = s3_client(servers.env, Config(s3={"addressing_style": "path"}))
    yield client
    client.close()


@pytest.fixture
def bucket(boto):
    name = f"storage-{uuid.uuid4().hex[:12]}"
    boto.create_bucket(Bucket=name)
    return name


@pytest_asyncio.fixture
async def store(servers) -> AsyncIterator[ObjectStore]:
    async with open_store(settings(servers.env)) as opened:
        yield opened


async def bytes_of(store, ref, **options) -> bytes:
    async with store.stream(ref, **options) as chunks:
        return b"".join([bytes(chunk) async for chunk in chunks])


async def listed(store, bucket, **options) -> list[str]:
    return [info.ref.key async for page in store.list(bucket, **options) for info in page]


async def test_every_key_that_the_server_takes_comes_back_unaltered(boto, bucket, store):
    for key in KEYS:
        boto.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert await listed(store, bucket) == sorted(KEYS, key=str.encode)
    for key in KEYS:
        ref, body = ObjectRef(bucket, key), key.encode()
        info, read = await store.read(ref)
        assert (info.ref, read) == (ref, body)
        assert (await store.head(ref)).size == len(body)
        assert await bytes_of(store, ref) == body


async def test_every_key_that_we_write_is_the_one_that_others_read(boto, bucket, store):
    for key in KEYS:
        await store.put(ObjectRef(bucket, key), key.encode())
    for key in KEYS:
        assert boto.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
        await store.delete(ObjectRef(bucket, key))
    assert boto.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("key", REFUSED)
async def test_a_key_that_minio_does_not_take_is_rejected_and_not_changed_into_another(bucket, store, key):
    for attempt in (store.put(ObjectRef(bucket, key), b"x"), store.read(ObjectRef(bucket, key))):
        with pytest.raises(Rejected) as caught:
            await attempt
        assert caught.value.code == "KEY_REFUSED"
    assert await listed(store, bucket) == []


async def test_minio_itself_drops_leading_slashes(bucket, store):
    await store.put(ObjectRef(bucket, "//x"), b"x")
    assert await listed(store, bucket) == ["x"]
    assert (await store.read(ObjectRef(bucket, "//x")))[1] == b"x"


@pytest.mark.parametrize("key", [PLAIN, ODD])
class TestObjects:
    async def test_an_object_is_described_as_it_was_stored(self, boto, bucket, store, key):
        boto.put_object(Bucket=bucket, Key=key, Body=b"abc", ContentType="text/x", Metadata={"Penstock-Digests": "md5"})
        ref = ObjectRef(bucket, key)
        info = await store.head(ref)
        assert info == (await store.read(ref))[0]
        assert (info.size, info.etag, info.content_type) == (3, hashlib.md5(b"abc").hexdigest(), "text/x")  # noqa: S324
        assert info.metadata == {"penstock-digests": "md5"}
        assert info.last_modified.utcoffset().total_seconds() == 0

    async def test_what_put_says_is_what_head_says(self, bucket, store, key):
        put = await store.put(ObjectRef(bucket, key), b"abc", metadata={"a": "b"}, content_type="text/x")
        head = await store.head(put.ref)
        assert (put.etag, put.size, put.metadata, put.content_type) == (
            head.etag,
            head.size,
            head.metadata,
            head.content_type,
        )

    @pytest.mark.parametrize(("start", "end"), [(0, None), (7, None), (0, 100), (5, 3_000_000), (2_999_999, 9_999_999)])
    async def test_a_range_gives_exactly_its_bytes(self, bucket, store, key, start, end):
        body = os.urandom(3_000_000)
        info = await store.put(ObjectRef(bucket, key), body)
        assert await bytes_of(store, info.ref, etag=info.etag, start=start, end=end) == body[start:end]

    async def test_an_empty_object_streams_nothing(self, bucket, store, key):
        ref = (await store.put(ObjectRef(bucket, key), b"")).ref
        assert await bytes_of(store, ref) == b""
        assert (await store.read(ref))[1] == b""

    async def test_a_range_past_the_end_is_rejected(self, bucket, store, key):
        ref = (await store.put(ObjectRef(bucket, key), b"abc")).ref
        with pytest.raises(Rejected, match="shorter"):
            await bytes_of(store, ref, start=3)

    async def test_an_overwritten_object_is_superseded(self, bucket, store, key):
        old = await store.put(ObjectRef(bucket, key), b"old")
        await store.put(old.ref, b"new")
        with pytest.raises(ObjectSuperseded):
            await store.read(old.ref, etag=old.etag)
        with pytest.raises(ObjectSuperseded):
            await bytes_of(store, old.ref, etag=old.etag)

    async def test_a_missing_object_is_gone_and_its_removal_no_error(self, bucket, store, key):
        ref = ObjectRef(bucket, key)
        for attempt in (
            store.head(ref),
            store.read(ref),
            bytes_of(store, ref),
        ):
            with pytest.raises(ObjectGone):
                await attempt
        await store.delete(ref)

    async def test_versions_are_told_apart(self, boto, bucket, store, key):
        boto.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        ref = ObjectRef(bucket, key)
        one, two = await store.put(ref, b"one"), await store.put(ref, b"two")
        assert one.ref.version_id
        assert (await store.read(one.ref))[1] == b"one"
        assert (await store.head(two.ref)).ref == two.ref
        marker = boto.delete_object(Bucket=bucket, Key=key)["VersionId"]
        for absent in (ref, ObjectRef(bucket, key, marker), ObjectRef(bucket, key, str(uuid.uuid4()))):
            with pytest.raises(ObjectGone):
                await store.read(absent)
            with pytest.raises(ObjectGone):
                await store.head(absent)
        await store.delete(one.ref)
        with pytest.raises(ObjectGone):
            await store.head(one.ref)
        assert (await store.read(two.ref))[1] == b"two"

    async def test_a_missing_bucket_is_not_a_missing_object(self, store, key):
        ref = ObjectRef("no-such-bucket", key)
        for attempt in (store.head(ref), store.read(ref), store.put(ref, b"x"), store.delete(ref)):
            with pytest.raises(Rejected) as caught:
                await attempt
            assert caught.value.code == "NO_SUCH_BUCKET"

    async def test_a_wrong_secret_is_waited_out_and_told_without_the_secret(self, servers, bucket, key):
        wrong = settings(servers.env, s3_secret_key=SecretStr("canary-of-a-secret"))
        async with open_store(wrong) as store:
            for attempt in (store.head(ObjectRef(bucket, key)), store.read(ObjectRef(bucket, key))):
                with pytest.raises(Outage, match="SignatureDoesNotMatch") as caught:
                    await attempt
                assert "canary" not in str(caught.value)

    async def test_a_closed_port_is_an_outage(self, servers, key, unused_tcp_port):
        endpoint = f"http://127.0.0.1:{unused_tcp_port}"
        async with open_store(settings(servers.env, s3_endpoint=endpoint)) as store:
            ref = ObjectRef("inbox", key)
            for attempt in (store.head(ref), store.read(ref), store.put(ref, b"x"), bytes_of(store, ref)):
                with pytest.raises(Outage, match=endpoint):
                    await attempt

    async def test_a_body_that_breaks_off_is_an_outage(self, servers, bucket, store, key):
        ref = (await store.put(ObjectRef(bucket, key), os.urandom(4 << 20))).ref
        async with (
            cutting(servers.env["PENSTOCK_S3_ENDPOINT"], after=1 << 20) as endpoint,
            open_store(settings(servers.env, s3_endpoint=endpoint)) as broken,
        ):
            with pytest.raises(Outage):
                await bytes_of(broken, ref, chunk_size=1 << 16)
            with pytest.raises(Outage):
                await broken.read(ref)


@contextlib.asynccontextmanager
async def cutting(endpoint: str, after: int) -> AsyncIterator[str]:
    """Stand before a server and hang up once it has answered `after` bytes."""
    there = urlsplit(endpoint)

    async def relay(reader, writer, limit: float) -> None:
        while limit > 0 and (data := await reader.read(1 << 16)):
            writer.write(data)
            await writer.drain()
            limit -= len(data)

    async def serve(reader, writer) -> None:
        up_reader, up_writer = await asyncio.open_connection(there.hostname, there.port)
        relaying = asyncio.create_task(relay(reader, up_writer, float("inf")))
        with contextlib.suppress(ConnectionError):
            await relay(up_reader, writer, after)
        relaying.cancel()
        for end in (writer, up_writer):
            end.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_listings_come_in_pages_from_where_one_asks(bucket, store):
    keys = [f"p/{n:04}" for n in range(1005)]
    for begin in range(0, len(keys), 64):
        await asyncio.gather(*(store.put(ObjectRef(bucket, key), b"x") for key in keys[begin : begin + 64]))
    await store.put(ObjectRef(bucket, "q"), b"x")
    pages = [len(page) async for page in store.list(bucket, prefix="p/")]
    assert pages == [1000, 5]
    assert await listed(store, bucket, prefix="p/", start_after="p/1002") == ["p/1003", "p/1004"]


async def test_a_listing_of_a_missing_bucket_is_rejected(store):
    with pytest.raises(Rejected) as caught:
        await listed(store, "no-such-bucket")
    assert caught.value.code == "NO_SUCH_BUCKET"


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32", "CRC32C", "CRC64NVME"])
async def test_the_checksum_that_an_uploader_gave_is_told_in_hex(boto, bucket, store, algorithm):
    boto.put_object(Bucket=bucket, Key="k", Body=b"abc", ChecksumAlgorithm=algorithm)
    found = (await store.head(ObjectRef(bucket, "k"))).checksums
    known = {
        "SHA256": hashlib.sha256(b"abc").hexdigest(),
        "SHA1": hashlib.sha1(b"abc").hexdigest(),  # noqa: S324
        "CRC32": "352441c2",
        "CRC32C": "364b3fb7",
        "CRC64NVME": f"{checksums.crc64nvme(b'abc'):016x}",
    }
    assert found == {algorithm.lower(): known[algorithm]}


async def test_a_checksum_of_parts_is_not_told(boto, bucket, store):
    upload = boto.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    name = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    part = boto.upload_part(**name, PartNumber=1, Body=b"abc", ChecksumAlgorithm="SHA256")
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    boto.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
    info = await store.head(ObjectRef(bucket, "k"))
    assert info.etag.endswith("-1")
    assert info.checksums == {}


async def test_a_server_that_comes_back_is_used_again(servers, bucket):
    async with open_store(settings(servers.env)) as store:
        refs = [(await store.put(ObjectRef(bucket, key), b"x")).ref for key in (PLAIN, ODD)]
        servers.kill("minio")
        for ref in refs:
            with pytest.raises(Outage):
                await store.read(ref)
        servers.start("minio")
        for ref in refs:
            assert (await store.read(ref))[1] == b"x"


MEASURE = """
import asyncio, resource, sys
from shared.settings import Settings
from shared.storage import ObjectRef, open_store
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
async def main(bucket, key):
    async with open_store(Settings()) as store:
        await store.head(ObjectRef(bucket, key))
        before, size = peak(), 0
        async with store.stream(ObjectRef(bucket, key)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
        print(size, peak() - before, "botocore" in sys.modules)
asyncio.run(main(*sys.argv[1:]))
"""


def test_memory_does_not_grow_with_the_object_and_no_large_library_is_loaded(servers, boto, bucket):
    size = 256 << 20
    boto.put_object(Bucket=bucket, Key="k", Body=bytes(size))
    command = [sys.executable, "-c", MEASURE, bucket, "k"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command, env={**os.environ, **servers.env}, cwd=root, capture_output=True, text=True, check=True
    )
    read, grown, loaded = done.stdout.split()
    assert (int(read), loaded) == (size, "False")
    assert float(grown) < 32


async def test_many_objects_are_removed_by_few_requests_whatever_they_are_called(bucket, store):
    odd = ["a b+c%2B", "é/e\u0301", "<&>'\"", "tab\tcr\rlf\nend", "\x1b[2J", "😀", "\ufffe", " "]
    keys = [f"n/{number}" for number in range(1100)] + [f"o/{name}" for name in odd]
    for key in keys:
        await store.put(ObjectRef(bucket, key), b"x")
    await store.put(ObjectRef(bucket, "stays"), b"x")
    await store.delete_all(bucket, [*keys, "never/was"])
    assert await listed(store, bucket) == ["stays"]


async def test_removal_from_a_bucket_that_is_not_there_is_refused(store):
    with pytest.raises(Rejected) as refused:
        await store.delete_all("no-such-bucket", ["a"])
    assert refused.value.code == "NO_SUCH_BUCKET"
