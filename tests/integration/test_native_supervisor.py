"""`python -m deploy.native` brings a stack up, keeps it up, and leaves nothing behind, whatever happens."""

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import boto3
import httpx
import psutil
import pytest

from deploy.native import ports
from deploy.native.install import CHECKOUT
from deploy.native.process import TAG
from shared.environment import read_file, resolve

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


class Console:
    """A copy of the checkout with its own `.env`, ports and state, driven as a person drives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".state"
        names = ("S3", "S3_CONSOLE", "KAFKA", "KAFKA_CONTROLLER", "POSTGRES", "HTTP")
        moved = {f"PENSTOCK_{name}_PORT": str(port) for name, port in zip(names, ports.pick(6), strict=True)}
        moved["PENSTOCK_HEALTH_PORT_BASE"] = str(ports.pick(1)[0])
        moved["PENSTOCK_ETL_SEED"] = "off"
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}, **moved}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.native", *words],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        with self.start(*words) as started:
            output = started.communicate(timeout=300)[0]
        return started.returncode, output

    @property
    def record(self) -> dict:
        return json.loads((self.state / "stack.json").read_text())

    def pids(self) -> dict[str, int]:
        return {one["name"]: one["pid"] for one in self.record["processes"]}

    @property
    def variables(self) -> dict[str, str]:
        return resolve(self.env, read_file(self.folder), folder=self.folder)

    def s3(self):
        return boto3.client(
            "s3",
            endpoint_url=self.variables["PENSTOCK_S3_ENDPOINT"],
            aws_access_key_id=self.variables["PENSTOCK_S3_ACCESS_KEY"],
            aws_secret_access_key=self.variables["PENSTOCK_S3_SECRET_KEY"],
            region_name="us-east-1",
        )

    async def ask(self, question: str, **login: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.variables["PENSTOCK_POSTGRES_DSN"], **login)
        try:
            return await connection.fetch(question)
        finally:
            await connection.close()

    async def statuses(self) -> dict[str, str]:
        return dict(map(tuple, await self.ask("SELECT key, status FROM api.digests")))

    def remains(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(TAG) == str(self.state) or process.cwd().startswith(str(self.folder)):
                    found.append(" ".join(process.cmdline()))
        return found


@pytest.fixture
def console():
    folder = Path(tempfile.mkdtemp(prefix="penstock-checkout-"))
    for part in ("deploy", "services", "shared", ".env.example"):
        copy = shutil.copytree if (CHECKOUT / part).is_dir() else shutil.copy
        copy(CHECKOUT / part, folder / part)
    made = Console(folder)
    yield made
    made.run("clean")
    shutil.rmtree(folder)


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

    def pictures():
        return asyncio.run(console.ask("SELECT count(nullif(img_path, '')) AS pictures FROM api.users", **reader))

    wait_for(lambda: pictures()[0]["pictures"] == 100)


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
        started.communicate(timeout=60)
    if started.returncode != 0:
        assert console.remains() == []


def test_a_taken_port_is_named_with_its_holder(console):
    with socket.create_server(("127.0.0.1", int(console.env["PENSTOCK_KAFKA_PORT"]))):
        code, output = console.run("up")
    assert code == 1
    assert f"process {os.getpid()}" in output
    assert "PENSTOCK_KAFKA_PORT" in output
    assert console.remains() == []
