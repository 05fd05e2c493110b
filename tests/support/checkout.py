"""A copy of the checkout with a stack of its own, driven as a person drives it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil

from deploy.native import ports
from deploy.native.install import CHECKOUT
from deploy.native.process import TAG
from shared.environment import read_file, resolve
from tests.support.s3 import s3_client


class Console:
    """A copy of the checkout with its own `.env`, ports and state; `env` and `umask` are those of its commands."""

    umask = 0o022

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
            umask=self.umask,
        )

    def run(self, *words: str) -> tuple[int, str]:
        with self.start(*words) as started:
            output = self.end(started, 300)
        return started.returncode, output

    def end(self, started: subprocess.Popen[str], seconds: float) -> str:
        """Return what a command said; one that does not end in time is killed, with what the supervisor said."""
        try:
            return started.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            started.kill()
            log = self.state / "logs" / "supervisor.log"
            said = log.read_text() if log.exists() else "(no log of a supervisor)"
            raise AssertionError(f"not over within {seconds:.0f} s: {started.communicate()[0]}\n{said}") from None

    @property
    def record(self) -> dict:
        return json.loads((self.state / "stack.json").read_text())

    def pids(self) -> dict[str, int]:
        return {one["name"]: one["pid"] for one in self.record["processes"]}

    @property
    def variables(self) -> dict[str, str]:
        return resolve(self.env, read_file(self.folder), folder=self.folder)

    def s3(self):
        return s3_client(self.variables)

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


@contextlib.contextmanager
def opened() -> Iterator[Console]:
    """Give a copy whose stack is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-checkout-"))
    for part in ("deploy", "services", "shared", ".env.example"):
        copy = shutil.copytree if (CHECKOUT / part).is_dir() else shutil.copy
        copy(CHECKOUT / part, folder / part)
    made = Console(folder)
    try:
        yield made
    finally:
        made.run("clean")
        shutil.rmtree(folder)
