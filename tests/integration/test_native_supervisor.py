"""`python -m deploy.native` brings a stack up, keeps it up, and leaves nothing behind, whatever happens."""

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import time

import httpx
import pytest

from tests.support import checkout

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture
def console():
    with checkout.opened() as made:
        yield made


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_up_is_idempotent_and_down_leaves_nothing(console):
    code, output = console.run("up")
    assert code == 0, output
    before = console.pids()
    assert {"kafka", "minio", "postgres", "ingest", "hasher"} <= set(before)
    assert (console.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert console.run("up")[0] == 0
    assert console.pids() == before
    assert console.run("down")[0] == 0
    assert console.remains() == []


def test_a_fresh_stack_has_users_to_look_at_and_a_role_that_reads_them(console):
    del console.env["PENSTOCK_ETL_SEED"]
    assert console.run("up")[0] == 0
    reader = {"user": "penstock_reader", "password": console.variables["PENSTOCK_READER_PASSWORD"]}

    def images():
        return asyncio.run(console.ask("SELECT count(nullif(img_path, '')) AS pictures FROM api.users", **reader))

    wait_for(lambda: images()[0]["pictures"] == 100)


def test_up_prints_a_link_that_logs_one_browser_in(console):
    output = console.run("up")[1]
    (link,) = re.findall(r"^  web +(\S+)$", output, re.MULTILINE)
    assert link.startswith(f"{console.variables['PENSTOCK_HTTP_URL']}/login?code=")
    first, second = (httpx.Client() for _ in range(2))
    with first, second:
        assert first.get(link).status_code == 303
        assert first.get(f"{console.variables['PENSTOCK_HTTP_URL']}/whoami").json()["name"] == "root"
        assert second.get(link).status_code == 403
    assert link not in (console.state / "logs" / "supervisor.log").read_text()
    os.kill(console.pids()["ingress"], signal.SIGSTOP)
    assert "penstock login" in console.run("up")[1]


def test_a_dead_process_is_started_again(console):
    assert console.run("up")[0] == 0
    before = console.pids()
    for name in ("hasher", "minio"):
        os.kill(before[name], signal.SIGKILL)

    def recovered():
        now = {one["name"]: one for one in console.record["processes"]}
        return all(now[name]["state"] == "running" and now[name]["restarts"] == 1 for name in ("hasher", "minio"))

    wait_for(recovered)
    assert console.pids()["ingest"] == before["ingest"]


@pytest.mark.parametrize("everything", [True, False], ids=["everything", "the supervisor alone"])
def test_up_recovers_after_kill_9(console, everything):
    assert console.run("up")[0] == 0
    console.s3().put_object(Bucket="inbox", Key="kept", Body=b"still here")
    victims = [*console.pids().values()] if everything else []
    for pid in (console.record["supervisor"]["pid"], *victims):
        os.kill(pid, signal.SIGKILL)
    code, output = console.run("up")
    assert code == 0, output
    assert console.run("status")[0] == 0
    assert console.s3().get_object(Bucket="inbox", Key="kept")["Body"].read() == b"still here"
    wait_for(lambda: asyncio.run(console.statuses()) == {"kept": "succeeded"})


@pytest.mark.parametrize("delay", [0.1, 0.3, 1.0, 2.0, 4.0, None])
def test_ctrl_c_while_starting_leaves_nothing(console, delay):
    delay = random.uniform(0, 8) if delay is None else delay
    print(f"after {delay} s")
    with console.start("up") as started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(delay)
        started.send_signal(signal.SIGINT)
        console.end(started, 60)
    if started.returncode != 0:
        assert console.remains() == []


def test_a_taken_port_is_named_with_its_holder(console):
    with socket.create_server(("127.0.0.1", int(console.env["PENSTOCK_KAFKA_PORT"]))):
        code, output = console.run("up")
    assert code == 1
    assert f"process {os.getpid()}" in output
    assert "PENSTOCK_KAFKA_PORT" in output
    assert console.remains() == []
