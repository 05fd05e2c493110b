"""Work that anybody may ask for costs next to nothing, and what costs more is counted before it is done."""

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import asyncpg
import httpx
import pytest

from tests.support import ingress
from tests.support.crowd import connect, metric
from tests.support.wire import read

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

STRANGERS, SECONDS = 100, 4.0


@pytest.fixture(autouse=True)
def served(system):
    ingress.serve(system)


def crowd(stranger, path, over):
    """Ask for `path` until it is over; return how often that was answered."""
    answered = 0
    while not over.is_set():
        answered += stranger.get(path).status_code == 200
    return answered


@contextmanager
def strangers(system, path):
    over, limits = Event(), httpx.Limits(max_connections=STRANGERS)
    with ingress.client(system, None, limits=limits) as stranger, ThreadPoolExecutor(STRANGERS) as pool:
        crowd_results = [pool.submit(crowd, stranger, path, over) for _ in range(STRANGERS)]
        try:
            yield crowd_results
        finally:
            over.set()


@contextmanager
def locked(system, table):
    """Let every question to a table wait."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(system.stack.env["PENSTOCK_POSTGRES_DSN"]))
        runner.run(connection.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        try:
            yield
        finally:
            runner.run(connection.close())


def test_metrics_are_rendered_once_a_second_for_a_hundred_strangers(system):
    name = "penstock_metrics_renderings_total"
    before, began, times = metric(system, name), time.monotonic(), []
    with ingress.client(system) as client, strangers(system, "/metrics") as crowd_results:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            sent_at = time.perf_counter()
            assert client.get("/whoami").status_code == 200
            times.append(time.perf_counter() - sent_at)
    answers, seconds = sum(one.result() for one in crowd_results), time.monotonic() - began
    time.sleep(1.1)  # until the last rendering is counted
    renderings = metric(system, name) - before
    print(f"{answers} answers of {renderings:.0f} renderings; others' p50 {1000 * statistics.median(times):.0f} ms")
    assert answers > STRANGERS
    assert renderings <= seconds + 4
    assert statistics.median(times) < 2.0


def test_both_ports_share_the_rendering(system):
    name = "penstock_metrics_renderings_total"
    health = system.stack.processes["ingress"].program.env["PENSTOCK_HEALTH_PORT"]
    before, began = metric(system, name), time.monotonic()
    for _ in range(10):
        assert httpx.get(f"http://127.0.0.1:{health}/metrics").status_code == 200
        metric(system, name)
    assert metric(system, name) - before <= time.monotonic() - began + 2


@pytest.mark.parametrize("query", ["&".join("a" * 10_000), "token=" + "%41" * 6000, "a=" + "b" * 40_000])
def test_addresses_are_refused_before_they_are_taken_apart(system, query):
    with connect(system) as line:
        line.sendall(f"GET /login?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = read(line)
    assert (answer.status, answer.json["code"]) == (414, "ADDRESS_TOO_LONG")


def test_pipelined_requests_are_bounded(system):
    with connect(system) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1000)
        got = bytearray()
        while piece := line.recv(65536):
            got += piece
    assert got.count(b"HTTP/1.1 200") < 50


def test_codes_of_strangers_ask_the_database_nothing_beyond_their_share(system):
    """Every question of theirs waits for a lock here, and others are answered all the same."""
    code = "A" * 43
    with locked(system, "ingress.logins"), ThreadPoolExecutor(60) as pool, ingress.client(system, None) as stranger:
        sent_at = [pool.submit(stranger.get, "/login", params={"code": code}) for _ in range(60)]
        with ingress.client(system) as root:
            answers = [root.get("/tokens").status_code for _ in range(10)]
        statuses = [one.result().status_code for one in sent_at]
    assert answers == [200] * 10
    assert statuses.count(429) >= 29
    assert not {200, 303} & set(statuses)


def test_a_code_that_is_none_never_reaches_the_database(system):
    with locked(system, "ingress.logins"):
        began = time.monotonic()
        with ingress.client(system, None) as stranger:
            refused = stranger.get("/login", params={"code": "x" * 10_000})
        assert time.monotonic() - began < 2
    assert refused.status_code in {403, 429}


def test_a_strangers_form_is_small(system):
    with ingress.client(system, None) as stranger:
        answer = stranger.post("/login", data={"token": "x" * 20_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
