"""The peer's Redis and workers, and its work laid out and collected."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import redis
from benchmark import TICK_SECONDS, TIMEOUT_SECONDS, Benchmark, BenchmarkTimeout, free_ports
from celery import Celery

from deploy.native.process import NotReady, Process, Program
from deploy.native.servers import base_env

HOST = "127.0.0.1"


@contextmanager
def redis_server(bench: Benchmark) -> Iterator[tuple[Process, str]]:
    """Run Redis with an append-only file; yield its process and its address."""
    (port,) = free_ports(1)
    folder = bench.stack.state_dir / "redis"
    folder.mkdir(exist_ok=True)
    options = {"bind": HOST, "port": port, "dir": folder, "appendonly": "yes", "appendfsync": "everysec", "save": ""}
    command = ("redis-server", *(word for name, value in options.items() for word in (f"--{name}", str(value))))
    client = redis.Redis(HOST, port)
    program = Program("redis", command, env=base_env(), ports={"port": port}, check=partial(_answers, client.ping))
    with bench.program(program) as process:
        yield process, f"redis://{HOST}:{port}"


def _answers(ask: Any) -> None:
    try:
        if not ask():
            raise NotReady("nobody answers")
    except (redis.RedisError, OSError) as error:
        raise NotReady(str(error)) from None


@dataclass(frozen=True, slots=True)
class Peer:
    """Ready workers, and a client of their queue."""

    workers: Process
    app: Celery
    results: "redis.Redis"

    def enqueue(self, bucket: str, names: Sequence[str]) -> list[str]:
        """Queue one task an object; return the task ids."""
        with self.app.producer_or_acquire() as producer:
            return [self.app.send_task("digest", (bucket, name), producer=producer).id for name in names]

    async def done(self, count: int) -> float:
        """Wait until so many results are stored; return the moment."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.results.dbsize() < count:
            if time.monotonic() > deadline:
                raise BenchmarkTimeout(f"the peer stored {self.results.dbsize()} of {count} results")
            await asyncio.sleep(TICK_SECONDS)
        return time.perf_counter()

    def collect(self, names: Sequence[str], ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return digests by name."""
        stored = self.results.mget([f"celery-task-meta-{one}" for one in ids])
        return {name: json.loads(text or b"{}").get("result") for name, text in zip(names, stored, strict=True)}


@contextmanager
def celery_workers(bench: Benchmark, address: str, count: int) -> Iterator[Peer]:
    """Run one Celery worker with `count` prefork children over empty queues."""
    for database in (0, 1):
        redis.Redis.from_url(f"{address}/{database}").flushdb()
    app = Celery("peer", broker=f"{address}/0")  # without a backend it does not subscribe to every result
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
    program = Program(
        name="celery",
        command=(
            sys.executable,
            "-m",
            "celery",
            "-A",
            "peer_celery",
            "worker",
            "-c",
            str(count),
            "--pool",
            "prefork",
            *quiet,
        ),
        env={**base_env(), "PYTHONPATH": str(Path(__file__).parent), "PEER_REDIS_URL": address, **_s3_env(bench)},
        check=partial(_answers, lambda: app.control.ping(timeout=0.5)),
    )
    with bench.program(program) as workers:
        yield Peer(workers, app, redis.Redis.from_url(f"{address}/1"))


def _s3_env(bench: Benchmark) -> dict[str, str]:
    return {
        name: bench.env[name] for name in ("PENSTOCK_S3_ENDPOINT", "PENSTOCK_S3_ACCESS_KEY", "PENSTOCK_S3_SECRET_KEY")
    }
