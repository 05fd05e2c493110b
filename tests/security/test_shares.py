"""One token cannot take a whole pool: slow uploads, slow readers, streams and connections."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.support import ingress
from tests.support.crowd import ask, connect, dripping, metric, token
from tests.support.receiver import receiving
from tests.support.tables import Table
from tests.support.waiting import until
from tests.support.wire import read

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

UPLOADS, STREAMS, GRACE, RATE = 64, 200, 3.0, 1024
HASTY = {"min_rate_bytes": RATE, "min_rate_grace_seconds": GRACE}


@pytest.fixture
def attacker(system):
    with token(system, "slow", "read", "write") as text:
        yield text


@pytest.fixture
def others(system):
    """Give a client of another token."""
    with token(system, "others", "read", "write") as text, ingress.client(system, text) as client:
        yield client


@pytest.fixture(autouse=True)
def served(system):
    ingress.serve(system)


def test_slow_uploads_of_one_token_leave_room_for_others(system, attacker, others):
    lines = {}
    for number in range(UPLOADS):
        lines[line := connect(system)] = bytes(1000)
        line.sendall(ask(system, attacker, "PUT", f"/objects/inbox/{system.prefix}slow-{number}", 1000) + b"x")
    with dripping(lines, 2.0):
        until(lambda: metric(system, "penstock_http_requests_in_flight") > UPLOADS, 20, "all slow uploads are there")
        began = time.monotonic()
        assert others.put(f"/objects/inbox/{system.prefix}healthy", content=b"x").status_code == 201
        assert time.monotonic() - began < 10
        assert metric(system, "penstock_ingress_permits_held", pool="uploads") == UPLOADS / 2


def test_an_upload_below_the_least_rate_is_ended_and_a_slow_line_is_not(system, attacker):
    ingress.serve(system, **HASTY)
    path, ended = (
        f"/objects/inbox/{system.prefix}",
        metric(system, "penstock_ingress_too_slow_total", direction="upload"),
    )
    slow = connect(system)
    slow.sendall(ask(system, attacker, "PUT", f"{path}slow", 5000))

    def pieces():
        for _ in range(int(2.5 * GRACE)):
            yield bytes(2 * RATE)
            time.sleep(1.0)  # a line of 2 KiB a second

    with dripping({slow: bytes(5000)}, 0.2), ingress.client(system, attacker) as client:
        size = str(2 * RATE * int(2.5 * GRACE))
        assert client.put(f"{path}legit", content=pieces(), headers={"content-length": size}).status_code == 201
        answer = read(slow)
    assert (answer.status, answer.json["code"]) == (408, "TOO_SLOW")
    assert "PENSTOCK_MIN_RATE_BYTES" in answer.json["detail"]
    assert client_gets(system, attacker, f"{path}slow") == 404
    until(
        lambda: metric(system, "penstock_ingress_too_slow_total", direction="upload") > ended, 5, "the metric counts it"
    )


def client_gets(system, text, path):
    with ingress.client(system, text) as client:
        return client.get(path).status_code


def test_a_download_below_the_least_rate_is_ended_and_a_slow_line_is_not(system, attacker):
    ingress.serve(system, **HASTY)
    key = f"{system.prefix}large"
    system.s3.put_object(Bucket="inbox", Key=key, Body=bytes(16 << 20))
    slow, legit = (connect(system, receive=4096) for _ in range(2))
    for line in (slow, legit):
        line.sendall(ask(system, attacker, "GET", f"/objects/inbox/{key}"))
    deadline = time.monotonic() + 4 * GRACE
    while time.monotonic() < deadline:
        legit.recv(4 * RATE)
        time.sleep(0.5)  # eight times the least rate
    until(lambda: metric(system, "penstock_ingress_too_slow_total", direction="download") == 1, 20, "one is ended")
    until(lambda: metric(system, "penstock_ingress_permits_held", pool="downloads") == 1, 5, "its permit is free")
    assert legit.recv(1)
    for line in (slow, legit):
        line.close()


def test_streams_of_one_token_leave_room_and_are_counted_before_they_answer(system, attacker, others):
    def follow(_):
        line = connect(system)
        line.sendall(ask(system, attacker, "GET", "/events"))
        return line, int(line.recv(100).split()[1])

    with ThreadPoolExecutor(50) as pool:
        lines = list(pool.map(follow, range(STREAMS)))
    try:
        statuses = [status for _, status in lines]
        assert (statuses.count(200), statuses.count(429)) == (STREAMS / 2, STREAMS / 2)
        with others.stream("GET", "/events") as answer:
            assert answer.status_code == 200
        with ingress.client(system, attacker) as client:
            refused = client.get("/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "SHARE_USED_UP")
        assert int(refused.headers["retry-after"]) > 0
        assert "PENSTOCK_EVENTS_STREAMS" in refused.json()["detail"]
    finally:
        for line, _ in lines:
            line.close()


def test_slow_readers_of_one_token_leave_tables_to_others(system, attacker, others):
    table = Table(system)
    try:
        table.add_many(200_000)
        with ExitStack() as slow, ThreadPoolExecutor(4) as pool:
            lines = [connect(system, receive=4096) for _ in range(4)]
            for line in lines:
                slow.callback(line.close)
                line.sendall(ask(system, attacker, "GET", f"/data?dataset={table.name}"))
            first = list(pool.map(lambda line: int(line.recv(15).split()[1]), lines))
            assert sorted(first) == [200, 200, 429, 429]
            answer = others.get("/data", params={"dataset": table.name, "limit": 3})
            assert (answer.status_code, len(answer.json())) == (200, 3)
    finally:
        table.drop()


def test_connections_of_one_address_leave_room_for_those_of_others(system):
    most = 40
    ingress.serve(system, max_connections=most)
    lines = [connect(system) for _ in range(most)]
    try:
        refused = read(lines[-1])
        assert (refused.status, refused.json["code"]) == (429, "SHARE_USED_UP")
        assert int(refused.headers["retry-after"]) > 0
        assert "PENSTOCK_MAX_CONNECTIONS" in refused.json["detail"]
        with connect(system, source="127.0.0.2") as other:
            other.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert read(other).status == 200
    finally:
        for line in lines:
            line.close()
    address = system.stack.env["PENSTOCK_HTTP_URL"]
    until(lambda: httpx.get(f"{address}/health").status_code == 200, 5, "there is room again")


def test_silent_webhooks_of_one_token_do_not_delay_those_of_others(system):
    """Each of them takes ten seconds to fail, and there are far more than are delivered at a time."""
    ingress.serve(system, webhook_allow_private=True)
    hook = {"types": ["objects.changed.*"], "bucket": "inbox", "prefix": system.prefix}
    with ExitStack() as ended:
        silent = ended.enter_context(socket.create_server(("127.0.0.1", 0), backlog=200))
        receiver = ended.enter_context(receiving())
        greedy = ended.enter_context(ingress.client(system, ended.enter_context(token(system, "hooks", "admin"))))
        other = ended.enter_context(ingress.client(system))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for client, address in (*((greedy, url) for _ in range(60)), (other, receiver.url)):
            made = client.post("/webhooks", json={"url": address, **hook}).json()
            ended.callback(client.delete, f"/webhooks/{made['id']}")
        system.put("a", b"a")
        until(lambda: system.object_row("a"), 30, "the fact")
        until(lambda: receiver.taken(system.prefix), 9, "the delivery to others")
