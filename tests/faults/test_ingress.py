"""Faults during uploads through the ingress: acknowledged objects are complete, others leave nothing behind."""

import contextlib
import random
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support import ingress
from tests.support.system import body_of
from tests.support.waiting import until

pytestmark = pytest.mark.faults

UPLOADS = 50
SIZE = 12 << 20
PARTS = 5 << 20


@pytest.fixture
def client(system):
    ingress.serve(system)
    with ingress.client(system, limits=httpx.Limits(max_connections=UPLOADS)) as client:
        yield client
    system.stack.stop("ingress")


def upload(system, client, name):
    """Return the name when the upload was acknowledged."""
    with contextlib.suppress(httpx.HTTPError):
        if ingress.put(system, client, name, body_of(name, SIZE)).status_code == 201:
            return name
    return None


def uploading(pool, system, client, names):
    return [pool.submit(upload, system, client, name) for name in names]


def held(oracle, system):
    return {key.removeprefix(system.prefix) for _, key in oracle.listed()}


def judge_uploads(system, oracle, acknowledged):
    oracle.over()
    until(lambda: not list(oracle._open_uploads()), 60, "open multipart uploads are aborted")
    oracle.judge()
    assert acknowledged <= held(oracle, system)


@pytest.mark.parametrize("victim", ["ingress", "minio"])
def test_acknowledged_uploads_survive_a_killed_server(system, oracle, client, victim):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with ThreadPoolExecutor(UPLOADS) as pool:
        under_way = uploading(pool, system, client, [f"{number:02}" for number in range(UPLOADS)])
        time.sleep(chance.uniform(0.5, 2.0))  # a random moment, not a wait
        system.stack.kill(victim)
        system.stack.start(victim)
        acknowledged = {one.result() for one in under_way} - {None}
    print(f"{len(acknowledged)} of {UPLOADS} acknowledged")
    if victim == "minio":
        oracle.sweep()
    judge_uploads(system, oracle, acknowledged)


def test_disconnected_clients_leave_no_object_and_no_open_upload(system, oracle, client):
    address = httpx.URL(system.stack.env["PENSTOCK_HTTP_URL"])
    head = (
        "PUT /objects/inbox/{} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n"
        f"Authorization: Bearer {system.stack.env['PENSTOCK_TOKEN']}\r\n\r\n"
    )
    for number in range(UPLOADS):
        with socket.create_connection((address.host, address.port)) as line:
            line.sendall(head.format(f"{system.prefix}{number:02}").encode() + bytes(number * PARTS // 10))
    whole = {upload(system, client, "whole")}
    judge_uploads(system, oracle, whole)
    assert held(oracle, system) == {"whole"}


def test_with_kafka_stopped_uploads_work_and_are_hashed_later(system, oracle, client):
    names = {f"{number:02}" for number in range(10)}
    with system.without("kafka"):
        acknowledged = {upload(system, client, name) for name in names}
    assert acknowledged == names
    judge_uploads(system, oracle, acknowledged)


def test_with_postgres_stopped_uploads_work_and_are_hashed_later(system, oracle, client):
    names = {f"{number:02}" for number in range(10)}
    with system.without("postgres"):
        acknowledged = {upload(system, client, name) for name in names}
    assert acknowledged == names
    judge_uploads(system, oracle, acknowledged)


@pytest.mark.usefixtures("client")
def test_pipeline_works_with_the_ingress_stopped(system, oracle):
    system.stack.stop("ingress")
    names = {f"{number:02}" for number in range(20)}
    assert system.put_all(names) == names
    oracle.over()
    oracle.judge()
