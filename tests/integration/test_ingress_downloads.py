"""Downloads on real servers: the bytes of one version, with flat memory, and nothing left of clients that go away."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tests.support import ingress
from tests.support.memory import resident
from tests.support.waiting import until
from tests.support.wire import connect, head

pytestmark = pytest.mark.integration

STALL = 2.0
SETTINGS = {"stall_seconds": STALL, "downloads_in_flight": 4}
LARGE = 64 << 20
MIB = 1 << 20


@pytest.fixture
def served(system):
    ingress.serve(system, **SETTINGS)
    return system


@pytest.fixture
def client(served):
    with ingress.client(served) as client:
        yield client


def body(seed, size=LARGE):
    return random.Random(seed).randbytes(1 << 16) * (size >> 16)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"no newline at all" * 100_000, bytes(range(256)) * 999],
    ids=["empty", "one", "text", "all"],
)
def test_what_goes_in_comes_out(served, client, content):
    name = f"{served.prefix.rstrip('/')} ü+%41 'q' \U0001f40b.bin"
    stored = client.post("/files/", files={"file": (name, content)})
    got = client.get(f"/files/{name.replace('%', '%25')}")
    assert (stored.json(), got.content) == ({"message": f"{name} upload task submitted."}, content)
    assert client.get(stored.headers["location"]).content == content
    assert got.headers["etag"] == stored.headers["etag"]
    again = client.get(
        f"/files/{name.replace('%', '%25')}", headers={"if-modified-since": got.headers["last-modified"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize(
    "requested", ["bytes=0-0", "bytes=-1", "bytes=5242870-5242890", "bytes=67108863-", "bytes=-99999999"]
)
def test_ranges_of_a_large_object(served, client, requested):
    content = body("ranges")
    served.s3.put_object(Bucket="inbox", Key=f"{served.prefix}a", Body=content)
    got = client.get(f"/objects/inbox/{served.prefix}a", headers={"range": requested})
    first, _, last = requested.removeprefix("bytes=").partition("-")
    expected = content[int(first) : int(last or LARGE) + 1] if first else content[-int(last) :]
    assert got.status_code == 206
    assert got.content == expected


def test_a_file_overwritten_all_the_time_is_never_mixed(served, client):
    """Every download is one version, whole; one that the store breaks off in the middle ends early and is told so."""
    versions = [bytes([number]) * (8 << 20) for number in range(8)]
    key, over = f"{served.prefix}a", Event()
    served.s3.put_object(Bucket="inbox", Key=key, Body=versions[0])

    def overwrite():
        number = 0
        while not over.is_set():
            served.s3.put_object(Bucket="inbox", Key=key, Body=versions[number % 8])
            number += 1

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(overwrite)
        try:
            got = [client.get(f"/objects/inbox/{key}") for _ in range(40)]
        finally:
            over.set()
        writing.result()
    whole = {hashlib.md5(one, usedforsecurity=False).digest() for one in versions}
    assert {one.status_code for one in got} == {200}
    assert {hashlib.md5(one.content, usedforsecurity=False).digest() for one in got} <= whole
    assert len({one.headers["etag"] for one in got}) > 1


def test_a_file_is_not_there_before_it_is_whole(served, client):
    name, content = served.prefix.rstrip("/"), body("whole")

    def slowly():
        for at in range(0, LARGE, MIB):
            yield content[at : at + MIB]
            if at == LARGE // 2:
                seen.append(client.get(f"/objects/inbox/{name}").status_code)

    seen: list[int] = []
    with ingress.client(served) as writer:
        for expected in (404, 200):
            headers = {"content-length": str(LARGE)}
            assert writer.put(f"/objects/inbox/{name}", content=slowly(), headers=headers).status_code == 201
            assert seen.pop() == expected


def test_clients_that_go_away_or_take_nothing_free_their_places(served, client):
    """More of them than there are places, and the next one is served: with memory as flat as before."""
    key = f"{served.prefix}a"
    served.s3.put_object(Bucket="inbox", Key=key, Body=body("vanish"))
    assert client.get(f"/objects/inbox/{key}").status_code == 200
    before = resident(served.stack.pid("ingress"))
    lines = []
    for number in range(12):
        line = connect(served)
        line.sendall(head(served, "GET", f"/objects/inbox/{key}", None))
        line.recv(100)
        lines.append(line)
        if number % 2:
            lines.pop().close()
    assert len(client.get(f"/objects/inbox/{key}").content) == LARGE
    until(lambda: lines_open(served) == 0, 6 * STALL, "those that take nothing are left")
    for line in lines:
        line.close()
    assert resident(served.stack.pid("ingress")) - before < 16 * MIB


def lines_open(system):
    """Count the connections that hold bytes which nobody takes."""
    port = int(system.stack.env["PENSTOCK_HTTP_URL"].rpartition(":")[2])
    with open("/proc/net/tcp") as table:  # noqa: PTH123 - the kernel's own
        rows = [row.split() for row in table.readlines()[1:]]
    return sum(int(row[1].split(":")[1], 16) == port and int(row[4].split(":")[0], 16) > 0 for row in rows)


def test_a_large_download_needs_no_memory(served, client):
    key = f"{served.prefix}a"
    served.s3.put_object(Bucket="inbox", Key=key, Body=body("flat", 256 << 20))
    client.get(f"/objects/inbox/{key}", headers={"range": "bytes=0-1048575"})
    before, most = resident(served.stack.pid("ingress")), 0
    with client.stream("GET", f"/objects/inbox/{key}") as answer:
        for number, _ in enumerate(answer.iter_bytes(1 << 20)):
            if number % 32 == 0:
                most = max(most, resident(served.stack.pid("ingress")))
    print(f"{(most - before) / MIB:.1f} MiB more than before")
    assert most - before < 16 * MIB
