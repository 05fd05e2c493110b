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
from tests.support.system import STORE_ERRORS, digests_of
from tests.support.waiting import until

pytestmark = pytest.mark.integration

MIB = 1 << 20
BODY = random.Random(7).randbytes(20 * MIB + 7)
SPOKEN = {"tus-resumable": "1.0.0"}
BYTES = {**SPOKEN, "content-type": "application/offset+octet-stream"}


@pytest.fixture
def address(system):
    return serve(system)


def tus(system):
    token = system.stack.env["PENSTOCK_TOKEN"]
    return TusClient(system.stack.env["PENSTOCK_HTTP_URL"] + "/tus/", headers={"Authorization": f"Bearer {token}"})


def uploader(system, name, body=BODY, **options):
    metadata = {"key": system.prefix + name, "filetype": "application/x-odd"}
    return tus(system).uploader(file_stream=io.BytesIO(body), metadata=metadata, **options)


def resumed(system, url, body=BODY, **options):
    """Ask how far an upload has come, as soon as nobody works on it, and go on from there."""

    def found():
        with suppress(TusCommunicationError):
            return tus(system).uploader(file_stream=io.BytesIO(body), url=url, **options)

    return until(found, 40, "an upload that may go on")


def begun(system, name, length):
    one = uploader(system, name, bytes(length))
    return one.create_url()


@contextmanager
def sending(system, url, body, *, at=0):
    """Send the beginning of a PATCH that announces all the rest, and hang up when the block ends."""
    location = urlsplit(url)
    head = {
        "Host": location.netloc,
        "Authorization": f"Bearer {system.stack.env['PENSTOCK_TOKEN']}",
        "Content-Length": str(len(BODY) - at),
        "Upload-Offset": str(at),
        **BYTES,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with socket.create_connection((location.hostname, location.port)) as connection:
        connection.sendall(f"PATCH {location.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        yield


def assert_stored(system, name, body=BODY):
    row = system.hashed(name)
    found = system.s3.get_object(Bucket="inbox", Key=system.prefix + name)
    assert found["Body"].read() == body
    assert found["ContentType"] == "application/x-odd"
    assert row["size"] == len(body)
    assert json.loads(row["digests"]) == digests_of(body)
    assert_nothing_is_left(system, name)


def assert_nothing_is_left(system, name):
    assert staged(system) == []
    assert open_uploads(system, name) == []


def staged(system):
    return [one["Key"] for one in system.s3.list_objects_v2(Bucket="uploads", Prefix="tus/").get("Contents", [])]


def open_uploads(system, name):
    asked = system.s3.list_multipart_uploads(Bucket="inbox", Prefix=system.prefix + name)
    return [one["UploadId"] for one in asked.get("Uploads", [])]


def parts(system, name):
    key = system.prefix + name
    with suppress(*STORE_ERRORS):
        for one in open_uploads(system, name):
            return len(system.s3.list_parts(Bucket="inbox", Key=key, UploadId=one).get("Parts", []))
    return 0


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("size", [0, 1, MIN_PART_BYTES, MIN_PART_BYTES + 1, len(BODY)])
def test_a_body_in_one_request_becomes_an_object(system, size):
    uploader(system, "one", BODY[:size]).upload()
    assert_stored(system, "one", BODY[:size])


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("chunk", [MIB, 7 * MIB])
def test_a_body_in_pieces_becomes_an_object(system, chunk, checked):
    uploader(system, "pieces", chunk_size=chunk, upload_checksum=checked).upload()
    assert_stored(system, "pieces")


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("size", [3, len(BODY)])
def test_an_upload_that_nobody_vouched_for_is_not_called_verified(system, size):
    uploader(system, "summed", BODY[:size], chunk_size=7 * MIB).upload()
    head = system.s3.head_object(Bucket="inbox", Key=system.prefix + "summed", ChecksumMode="ENABLED")
    assert "ChecksumCRC64NVME" not in head
    assert system.hashed("summed")["verification"] is None


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("sent", [3, MIN_PART_BYTES + 3, 17 * MIB])
def test_whoever_was_cut_off_goes_on_where_it_was(system, sent):
    url = begun(system, "cut", len(BODY))
    with sending(system, url, BODY[:sent]):
        until(lambda: parts(system, "cut") >= sent // MIN_PART_BYTES, 30, "the parts that are full")
    one = resumed(system, url, chunk_size=3 * MIB)
    assert MIN_PART_BYTES * (sent // MIN_PART_BYTES) <= one.offset <= sent
    one.upload()
    assert_stored(system, "cut")


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("length", ["Content-Length: 20971527", "Transfer-Encoding: chunked"])
def test_a_line_that_went_dead_holds_no_upload(system, length):
    """A client that comes back over another network must not wait for the old line: it gives up after 9 s."""
    url, chunk = begun(system, "dead", len(BODY)), BODY[: MIN_PART_BYTES + MIB]
    location = urlsplit(url)
    token = system.stack.env["PENSTOCK_TOKEN"]
    head = f"PATCH {location.path} HTTP/1.1\r\nHost: {location.netloc}\r\nAuthorization: Bearer {token}\r\n{length}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in {**BYTES, "Upload-Offset": "0"}.items()) + "\r\n"
    body = b"%x\r\n%b\r\n" % (len(chunk), chunk) if "chunked" in length else chunk
    with socket.create_connection((location.hostname, location.port), 30) as line:
        line.sendall(head.encode() + body)
        until(lambda: parts(system, "dead") == 1, 30, "a part")
        began = time.monotonic()
        one = tus(system).uploader(file_stream=io.BytesIO(BODY), url=url, chunk_size=6 * MIB)
        assert time.monotonic() - began < 8
        assert MIN_PART_BYTES <= one.offset <= len(chunk)
        assert line.recv(4096).startswith(b"HTTP/1.1 400 ")
        one.upload()
    assert_stored(system, "dead")


@pytest.mark.usefixtures("address")
def test_a_killed_ingress_loses_no_full_part(system):
    url, offset = begun(system, "killed", len(BODY)), 0
    for count in (1, 2, 3):
        sent = BODY[offset : (count + 1) * MIN_PART_BYTES - 1]
        with sending(system, url, sent, at=offset):
            until(lambda count=count: parts(system, "killed") >= count, 30, "a part")
            system.stack.kill("ingress")
        system.stack.start("ingress")
        found = resumed(system, url).offset
        assert count * MIN_PART_BYTES <= found <= offset + len(sent)
        offset = found
    resumed(system, url, chunk_size=3 * MIB).upload()
    assert_stored(system, "killed")


class Held(io.BytesIO):
    """A file of which no more is read than a test lets go."""

    allowed = 0

    def read(self, size=-1):
        until(lambda: self.tell() + (size if size >= 0 else len(BODY)) <= self.allowed, 120, "leave to read on")
        return super().read(size)


@pytest.mark.usefixtures("address")
def test_a_client_that_tries_again_outlives_every_kill(system):
    body = Held(BODY)
    metadata = {"key": system.prefix + "kills", "filetype": "application/x-odd"}
    one = tus(system).uploader(file_stream=body, metadata=metadata, chunk_size=256 << 10, retries=60, retry_delay=1)
    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(one.upload)
        for count in (1, 2, 3):
            body.allowed = count * MIN_PART_BYTES + 3 * MIB
            until(lambda count=count: parts(system, "kills") >= count, 60, "a part")
            system.stack.kill("ingress")
            system.stack.start("ingress")
        body.allowed = 2 * len(BODY)
        uploading.result(timeout=120)
    assert_stored(system, "kills")


@pytest.mark.usefixtures("address")
def test_a_store_that_was_away_costs_at_most_what_was_no_full_part(system):
    one = uploader(system, "away", chunk_size=6 * MIB)
    one.upload_chunk()
    with system.without("minio", end="kill"), pytest.raises(TusUploadFailed) as failed:
        one.upload_chunk()
    assert failed.value.status_code == 503
    assert resumed(system, one.url).offset == 6 * MIB
    resumed(system, one.url, chunk_size=6 * MIB).upload()
    assert_stored(system, "away")


@pytest.mark.usefixtures("address")
def test_wrong_bytes_are_not_kept(system):
    url = begun(system, "wrong", len(BODY))
    headers = {**BYTES, "upload-offset": "0", "upload-checksum": "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA="}
    with client(system) as http:
        answer = http.patch(url, content=BODY[: 6 * MIB], headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (460, "CHECKSUM_MISMATCH")
    one = resumed(system, url, chunk_size=6 * MIB, upload_checksum=True)
    assert one.offset == 0
    one.upload()
    assert_stored(system, "wrong")


@pytest.mark.usefixtures("address")
def test_an_upload_that_is_given_up_leaves_nothing(system):
    one = uploader(system, "given up", chunk_size=6 * MIB)
    one.upload(stop_at=12 * MIB)
    assert len(staged(system)) == 2
    assert len(open_uploads(system, "given up")) == 1
    with client(system) as http:
        assert http.delete(one.url, headers=SPOKEN).status_code == 204
        assert http.head(one.url, headers=SPOKEN).status_code == 404
    assert_nothing_is_left(system, "given up")


def test_an_upload_past_its_time_is_removed(system):
    serve(system, tus_expire_days=5 / 86400)
    one = uploader(system, "late", chunk_size=6 * MIB)
    one.upload_chunk()
    until(lambda: not staged(system) and not open_uploads(system, "late"), 30, lambda: staged(system))
    with client(system) as http:
        assert http.head(one.url, headers=SPOKEN).status_code == 410


@pytest.mark.usefixtures("address")
def test_postgres_is_not_needed(system):
    with system.without("postgres"):
        uploader(system, "alone", chunk_size=7 * MIB).upload()
    assert_stored(system, "alone")
