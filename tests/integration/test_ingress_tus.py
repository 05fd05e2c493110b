"""Resumable uploads on real servers, by the tus project's own client: cut off, killed, given up, too late."""

import io
import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

from shared.storage.multipart import MIN_PART_BYTES
from tests.support.ingress import client, serve
from tests.support.waiting import until
from tests.support.world import SAYS_NO, digests_of

pytestmark = pytest.mark.integration

MIB = 1 << 20
BODY = random.Random(7).randbytes(20 * MIB + 7)
SPOKEN = {"tus-resumable": "1.0.0"}
BYTES = {**SPOKEN, "content-type": "application/offset+octet-stream"}


@pytest.fixture
def address(world):
    return serve(world)


def tus(world):
    token = world.stack.env["PENSTOCK_TOKEN"]
    return TusClient(world.stack.env["PENSTOCK_HTTP_URL"] + "/tus/", headers={"Authorization": f"Bearer {token}"})


def uploader(world, name, body=BODY, **options):
    metadata = {"key": world.prefix + name, "filetype": "application/x-odd"}
    return tus(world).uploader(file_stream=io.BytesIO(body), metadata=metadata, **options)


def resumed(world, url, body=BODY, **options):
    """Ask how far an upload has come, as soon as nobody works on it, and go on from there."""

    def found():
        with suppress(TusCommunicationError):
            return tus(world).uploader(file_stream=io.BytesIO(body), url=url, **options)

    return until(found, 40, "an upload that may go on")


def begun(world, name, length):
    one = uploader(world, name, bytes(length))
    return one.create_url()


@contextmanager
def sending(world, url, body, *, at=0):
    """Send the beginning of a PATCH that announces all the rest, and hang up when the block ends."""
    place = urlsplit(url)
    head = {
        "Host": place.netloc,
        "Authorization": f"Bearer {world.stack.env['PENSTOCK_TOKEN']}",
        "Content-Length": str(len(BODY) - at),
        "Upload-Offset": str(at),
        **BYTES,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(f"PATCH {place.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        yield


def assert_stored(world, name, body=BODY):
    row = world.hashed(name)
    found = world.s3.get_object(Bucket="inbox", Key=world.prefix + name)
    assert found["Body"].read() == body
    assert found["ContentType"] == "application/x-odd"
    assert row["size"] == len(body)
    assert json.loads(row["digests"]) == digests_of(body)
    assert_nothing_is_left(world, name)


def assert_nothing_is_left(world, name):
    assert staged(world) == []
    assert open_uploads(world, name) == []


def staged(world):
    return [one["Key"] for one in world.s3.list_objects_v2(Bucket="uploads", Prefix="tus/").get("Contents", [])]


def open_uploads(world, name):
    asked = world.s3.list_multipart_uploads(Bucket="inbox", Prefix=world.prefix + name)
    return [one["UploadId"] for one in asked.get("Uploads", [])]


def parts(world, name):
    key = world.prefix + name
    with suppress(*SAYS_NO):
        for one in open_uploads(world, name):
            return len(world.s3.list_parts(Bucket="inbox", Key=key, UploadId=one).get("Parts", []))
    return 0


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("size", [0, 1, MIN_PART_BYTES, MIN_PART_BYTES + 1, len(BODY)])
def test_a_body_in_one_request_becomes_an_object(world, size):
    uploader(world, "one", BODY[:size]).upload()
    assert_stored(world, "one", BODY[:size])


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("chunk", [MIB, 7 * MIB])
def test_a_body_in_pieces_becomes_an_object(world, chunk, checked):
    uploader(world, "pieces", chunk_size=chunk, upload_checksum=checked).upload()
    assert_stored(world, "pieces")


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("size", [3, len(BODY)])
def test_an_upload_that_nobody_vouched_for_is_not_called_verified(world, size):
    uploader(world, "summed", BODY[:size], chunk_size=7 * MIB).upload()
    told = world.s3.head_object(Bucket="inbox", Key=world.prefix + "summed", ChecksumMode="ENABLED")
    assert "ChecksumCRC64NVME" not in told
    assert world.hashed("summed")["verification"] is None


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("sent", [3, MIN_PART_BYTES + 3, 17 * MIB])
def test_whoever_was_cut_off_goes_on_where_it_was(world, sent):
    url = begun(world, "cut", len(BODY))
    with sending(world, url, BODY[:sent]):
        until(lambda: parts(world, "cut") >= sent // MIN_PART_BYTES, 30, "the parts that are full")
    one = resumed(world, url, chunk_size=3 * MIB)
    assert MIN_PART_BYTES * (sent // MIN_PART_BYTES) <= one.offset <= sent
    one.upload()
    assert_stored(world, "cut")


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("length", ["Content-Length: 20971527", "Transfer-Encoding: chunked"])
def test_a_line_that_went_dead_holds_no_upload(world, length):
    """A client that comes back over another network must not wait for the old line: it gives up after 9 s."""
    url, chunk = begun(world, "dead", len(BODY)), BODY[: MIN_PART_BYTES + MIB]
    place = urlsplit(url)
    token = world.stack.env["PENSTOCK_TOKEN"]
    head = f"PATCH {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {token}\r\n{length}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in {**BYTES, "Upload-Offset": "0"}.items()) + "\r\n"
    body = b"%x\r\n%b\r\n" % (len(chunk), chunk) if "chunked" in length else chunk
    with socket.create_connection((place.hostname, place.port), 30) as line:
        line.sendall(head.encode() + body)
        until(lambda: parts(world, "dead") == 1, 30, "a part")
        began = time.monotonic()
        one = tus(world).uploader(file_stream=io.BytesIO(BODY), url=url, chunk_size=6 * MIB)
        assert time.monotonic() - began < 8
        assert MIN_PART_BYTES <= one.offset <= len(chunk)
        assert line.recv(4096).startswith(b"HTTP/1.1 400 ")
        one.upload()
    assert_stored(world, "dead")


@pytest.mark.usefixtures("address")
def test_a_killed_ingress_loses_no_full_part(world):
    url, offset = begun(world, "killed", len(BODY)), 0
    for count in (1, 2, 3):
        sent = BODY[offset : (count + 1) * MIN_PART_BYTES - 1]
        with sending(world, url, sent, at=offset):
            until(lambda count=count: parts(world, "killed") >= count, 30, "a part")
            world.stack.kill("ingress")
        world.stack.start("ingress")
        found = resumed(world, url).offset
        assert count * MIN_PART_BYTES <= found <= offset + len(sent)
        offset = found
    resumed(world, url, chunk_size=3 * MIB).upload()
    assert_stored(world, "killed")


class Held(io.BytesIO):
    """A file of which no more is read than a test lets go."""

    allowed = 0

    def read(self, size=-1):
        until(lambda: self.tell() + (size if size >= 0 else len(BODY)) <= self.allowed, 120, "leave to read on")
        return super().read(size)


@pytest.mark.usefixtures("address")
def test_a_client_that_tries_again_outlives_every_kill(world):
    body = Held(BODY)
    metadata = {"key": world.prefix + "kills", "filetype": "application/x-odd"}
    one = tus(world).uploader(file_stream=body, metadata=metadata, chunk_size=256 << 10, retries=60, retry_delay=1)
    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(one.upload)
        for count in (1, 2, 3):
            body.allowed = count * MIN_PART_BYTES + 3 * MIB
            until(lambda count=count: parts(world, "kills") >= count, 60, "a part")
            world.stack.kill("ingress")
            world.stack.start("ingress")
        body.allowed = 2 * len(BODY)
        uploading.result(timeout=120)
    assert_stored(world, "kills")


@pytest.mark.usefixtures("address")
def test_a_store_that_was_away_costs_at_most_what_was_no_full_part(world):
    one = uploader(world, "away", chunk_size=6 * MIB)
    one.upload_chunk()
    with world.without("minio", end="kill"), pytest.raises(TusUploadFailed) as failed:
        one.upload_chunk()
    assert failed.value.status_code == 503
    assert resumed(world, one.url).offset == 6 * MIB
    resumed(world, one.url, chunk_size=6 * MIB).upload()
    assert_stored(world, "away")


@pytest.mark.usefixtures("address")
def test_wrong_bytes_are_not_kept(world):
    url = begun(world, "wrong", len(BODY))
    headers = {**BYTES, "upload-offset": "0", "upload-checksum": "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA="}
    with client(world) as http:
        answer = http.patch(url, content=BODY[: 6 * MIB], headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (460, "CHECKSUM_MISMATCH")
    one = resumed(world, url, chunk_size=6 * MIB, upload_checksum=True)
    assert one.offset == 0
    one.upload()
    assert_stored(world, "wrong")


@pytest.mark.usefixtures("address")
def test_an_upload_that_is_given_up_leaves_nothing(world):
    one = uploader(world, "given up", chunk_size=6 * MIB)
    one.upload(stop_at=12 * MIB)
    assert len(staged(world)) == 2
    assert len(open_uploads(world, "given up")) == 1
    with client(world) as http:
        assert http.delete(one.url, headers=SPOKEN).status_code == 204
        assert http.head(one.url, headers=SPOKEN).status_code == 404
    assert_nothing_is_left(world, "given up")


def test_an_upload_past_its_time_is_removed(world):
    serve(world, tus_expire_days=5 / 86400)
    one = uploader(world, "late", chunk_size=6 * MIB)
    one.upload_chunk()
    until(lambda: not staged(world) and not open_uploads(world, "late"), 30, lambda: staged(world))
    with client(world) as http:
        assert http.head(one.url, headers=SPOKEN).status_code == 410


@pytest.mark.usefixtures("address")
def test_postgres_is_not_needed(world):
    with world.without("postgres"):
        uploader(world, "alone", chunk_size=7 * MIB).upload()
    assert_stored(world, "alone")
