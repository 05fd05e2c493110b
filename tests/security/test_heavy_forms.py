"""Bodies that are small in every piece and large in all: what the ingress holds of them in memory stays bounded."""

import itertools
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import ingress
from tests.support.crowd import ask, connect, metric, token
from tests.support.memory import peak, reset_peak, resident
from tests.support.waiting import until
from tests.support.wire import BOUNDARY, form, part, read

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

MIB = 1 << 20
UPLOADS, FIELDS, FIELD = 40, 990, bytes(64 << 10)
ALLOWED = 160 * MIB
KIND = {"content_type": f"multipart/form-data; boundary={BOUNDARY}", "bucket": "inbox"}


@pytest.fixture
def attacker(system):
    ingress.serve(system)
    with token(system, "heavy", "read", "write", "admin") as text:
        yield text


@pytest.fixture
def fresh(system):
    """Start the ingress again: memory that an earlier test made it take would hide what this one needs."""
    system.stop("ingress")


def pour(line, pieces):
    """Send what the other side takes; it may have said no already."""
    try:
        for piece in pieces:
            line.sendall(piece)
    except OSError:
        return


def answered(line):
    try:
        return read(line)
    except (OSError, AssertionError):  # closed while it was sent to
        return None


def grown(system, attack):
    """Return what an attack takes of memory at its most, and what each of its requests was answered."""
    pid = system.stack.pid("ingress")
    idle = resident(pid)
    reset_peak(pid)
    with ThreadPoolExecutor(UPLOADS) as pool:
        answers = list(pool.map(attack, range(UPLOADS)))
    used = peak(pid) - idle
    print(f"{used / MIB:.0f} MiB over idle")
    return used, [one for one in answers if one is not None]


@pytest.mark.usefixtures("fresh")
def test_plain_fields_of_many_forms_need_little_memory(system, attacker):
    field, paths = part("f", None, FIELD), ("/files/", "/uploadfile/", "/files/upload_minio")

    def attack(number):
        with connect(system) as line:
            path = paths[number % len(paths)]
            line.sendall(ask(system, attacker, "POST", path, FIELDS * len(field) + 1000, **KIND))
            pour(line, itertools.repeat(field, FIELDS))
            return answered(line)

    used, answers = grown(system, attack)
    assert used <= ALLOWED
    assert answers
    assert {(one.status, one.json["code"]) for one in answers} == {(413, "TOO_LARGE")}
    with ingress.client(system, attacker) as client:  # and a form as people send it is as welcome as ever
        sent = client.post("/files/", files={"file": (system.prefix.rstrip("/"), b"x")}, data={"note": "y" * 60_000})
    assert sent.status_code == 202


def test_names_of_files_count_too(system, attacker):
    files = [part("files", f"{number}{'n' * 4000}", b"x") for number in range(900)]
    body = form(part("keys_prefix", None, system.prefix.encode()), *files)
    with connect(system) as line:
        line.sendall(ask(system, attacker, "POST", "/files/upload_minio", len(body), **KIND))
        pour(line, [body])
        answer = answered(line)
    assert answer is None or (answer.status, answer.json["code"]) in {(413, "TOO_LARGE"), (422, "KEY_TOO_LONG")}
    names = [part("files", f"{number}/{'n' * 200}", b"x") for number in range(50)]
    body = form(part("keys_prefix", None, b"p"), *names)
    with ingress.client(system, attacker) as client:
        headers = {"content-type": KIND["content_type"], "bucket": "inbox"}
        sent = client.post("/files/upload_minio", content=body, headers=headers, timeout=120)
    assert sent.status_code == 204


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("is_chunked", [False, True])
def test_json_bodies_need_little_memory(system, attacker, is_chunked):
    paths, size, piece = ("/tokens", "/webhooks", "/multipart"), 64 * MIB, b" " * MIB
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece)

    def attack(number):
        with connect(system) as line:
            path = paths[number % len(paths)]
            headers = {"content_type": "application/json"}
            if is_chunked:
                line.sendall(ask(system, attacker, "POST", path, None, transfer_encoding="chunked", **headers))
            else:
                line.sendall(ask(system, attacker, "POST", path, size, **headers))
            pour(line, itertools.repeat(chunk if is_chunked else piece, size // MIB))
            return answered(line)

    used, answers = grown(system, attack)
    assert used <= ALLOWED
    assert answers
    assert {one.status for one in answers} == {413}


def test_json_bodies_that_are_deep_or_long_lists_are_refused(system, attacker):
    headers = {"content-type": "application/json"}
    bodies = [
        b"[" * 200_000,
        b'{"a":' * 40_000,
        json.dumps({"name": "n", "scopes": ["read"], "places": ["inbox/x"] * 20_000}).encode(),
    ]
    with ingress.client(system, attacker) as client:
        for body in bodies:
            assert client.post("/tokens", content=body, headers=headers).status_code in {400, 422}
        numbers = {"numbers": list(range(1, 20_000))}
        assert client.post("/multipart/x/sign", json=numbers).status_code in {404, 422}


def test_json_in_chunks_is_still_read(system, attacker):
    def pieces():
        yield b'{"filename": "a", '
        yield b'"size": 5}'

    with ingress.client(system, attacker) as client:
        made = client.post("/multipart", content=pieces(), headers={"content-type": "application/json"})
        assert made.status_code == 201
        assert client.delete(f"/multipart/{made.json()['id']}").status_code == 204


def test_bodies_that_come_slowly_are_bounded_together(system, attacker):
    lines: list[socket.socket] = []
    for _ in range(100):
        lines.append(line := connect(system))
        line.sendall(ask(system, attacker, "POST", "/tokens", 200_000, content_type="application/json") + b"{")
    try:
        until(lambda: metric(system, "penstock_ingress_permits_held", pool="bodies") == 32, 20, "half of the pool")
        began = time.monotonic()
        with ingress.client(system) as root:
            assert root.post("/tokens", json={"name": "x", "scopes": []}).status_code == 422
        assert time.monotonic() - began < 10
    finally:
        for line in lines:
            line.close()
