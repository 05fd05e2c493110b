"""Eight large uploads at a time: the ingress holds a part of each, whatever their size and form."""

import http.client
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support import ingress
from tests.support.memory import peak, reset_peak, resident
from tests.support.wire import BOUNDARY, form, part

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SIZE = int(os.environ.get("PENSTOCK_TEST_UPLOAD_BYTES", "0")) or 256 << 20
UPLOADS = 8
MIB = 1 << 20
ALLOWED = 64 * MIB
CHUNK = os.urandom(MIB)


@pytest.fixture
def served(system):
    system.stop("ingress")  # what an earlier test made it hold would hide what this one does
    ingress.serve(system)
    return system


def generated() -> Iterator[bytes]:
    for _ in range(SIZE // MIB):
        yield CHUNK


def send(system, method, path, length, pieces, **headers):
    """Send a body that nowhere is in memory as a whole; return the status."""
    address = httpx.URL(system.stack.env["PENSTOCK_HTTP_URL"])
    line = http.client.HTTPConnection(address.host, address.port, timeout=300)
    token = {"Authorization": f"Bearer {system.stack.env['PENSTOCK_TOKEN']}"}
    line.request(method, path, pieces, {**token, **headers, "Content-Length": str(length)})
    answer = line.getresponse()
    body = answer.read()
    line.close()
    assert answer.status in {201, 202, 204}, body
    return answer.status


def raw(system, number):
    return send(system, "PUT", f"/objects/inbox/{system.prefix}{number}", SIZE, generated())


def by_form(system, number, path="/files/", field="file"):
    name = f"{system.prefix.rstrip('/')}-{number}"
    frame = form(part("keys_prefix", None, f"{system.prefix}{number}".encode()), part(field, name, b""))
    cut = frame.rindex(b"\r\n--")

    def pieces():
        yield frame[:cut]
        yield from generated()
        yield frame[cut:]

    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return send(system, "POST", path, SIZE + len(frame), pieces(), **{"Content-Type": kind, "Bucket": "inbox"})


def in_a_set(system, number):
    return by_form(system, number, "/files/upload_minio", "files")


@pytest.mark.parametrize("upload", [raw, by_form, in_a_set])
def test_large_uploads_side_by_side_need_little_memory(served, upload):
    pid = served.stack.pid("ingress")
    with ThreadPoolExecutor(UPLOADS) as pool:
        idle = resident(pid)
        reset_peak(pid)
        list(pool.map(lambda number: upload(served, number), range(UPLOADS)))
    used = peak(pid) - idle
    print(f"{UPLOADS} uploads of {SIZE / MIB:.0f} MiB by {upload.__name__}: {used / MIB:.1f} MiB over idle")
    for bucket, prefix in (("inbox", served.prefix), ("inbox", f"files/{served.prefix.rstrip('/')}")):
        for one in served.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ()):
            assert one["Size"] == SIZE
            served.s3.delete_object(Bucket=bucket, Key=one["Key"])
    assert used <= ALLOWED
