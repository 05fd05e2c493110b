"""The benchmarked stack: real servers on free ports, its objects, and what its topics hold."""

import asyncio
import itertools
import json
import random
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import bodies
import obstore
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from obstore.store import S3Store

from deploy.native import dotenv, ports, services
from deploy.native.install import CHECKOUT, Installer, Tools
from deploy.native.postgres_home import delete_data
from deploy.native.process import Process, Program
from deploy.native.stack import Stack
from services.catalogue import manifests
from shared.errors import PenstockError
from shared.events import Event
from shared.topics import Topic

PORTS = range(27_000, 28_000)
IN_FLIGHT = 64
TICK_SECONDS = 0.01
TIMEOUT_SECONDS = 180.0

Positions = dict[TopicPartition, int]


class BenchmarkTimeout(PenstockError):  # noqa: N818 - what happened
    """An awaited state was not reached in time."""


@asynccontextmanager
async def open_benchmark() -> AsyncIterator["Benchmark"]:
    """Start the servers, set them up, and remove everything afterwards."""
    state = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    tools = Installer(state, print).install()
    stack = Stack.native(dotenv.fresh(CHECKOUT, _moved(state), services.secrets()), tools)
    try:
        stack.start_servers()
        stack.setup()
        reader = AIOKafkaConsumer(bootstrap_servers=stack.env["PENSTOCK_KAFKA_BOOTSTRAP"], enable_auto_commit=False)
        await reader.start()
        try:
            yield Benchmark(stack, tools, reader)
        finally:
            await reader.stop()
    finally:
        stack.stop_all()
        delete_data(state)


def free_ports(count: int) -> list[int]:
    """Ports beside those that tests pick from, so that neither disturbs the other."""
    return list(itertools.islice(filter(ports.is_free, random.sample(PORTS, len(PORTS))), count))


def _moved(state: Path) -> dict[str, str]:
    names = (
        "S3_PORT",
        "S3_CONSOLE_PORT",
        "KAFKA_PORT",
        "KAFKA_CONTROLLER_PORT",
        "POSTGRES_PORT",
        "HTTP_PORT",
        "HEALTH_PORT_BASE",
    )
    free = dict(zip(names, free_ports(len(names)), strict=True))
    return {"PENSTOCK_STATE_DIR": str(state), **{f"PENSTOCK_{name}": str(port) for name, port in free.items()}}


class Benchmark:
    """The stack, and the measuring side's own connections to it."""

    def __init__(self, stack: Stack, tools: Tools, reader: AIOKafkaConsumer) -> None:
        self.stack = stack
        self.tools = tools
        self.env = stack.env
        self._reader = reader

    # objects

    def bucket(self, name: str = bodies.BUCKET) -> S3Store:
        return S3Store(
            name,
            endpoint=self.env["PENSTOCK_S3_ENDPOINT"],
            access_key_id=self.env["PENSTOCK_S3_ACCESS_KEY"],
            secret_access_key=self.env["PENSTOCK_S3_SECRET_KEY"],
            region="us-east-1",
            client_options={"allow_http": True},
        )

    async def put_all(self, names: Sequence[str], size: int = bodies.SMALL, bucket: str = bodies.BUCKET) -> float:
        """Store objects, many in flight, by the fastest client there is; return the seconds it took."""
        store, made = self.bucket(bucket), [(name, bodies.body(name, size)) for name in names]
        started = time.perf_counter()
        await in_flight(made, lambda one: obstore.put_async(store, one[0], one[1], use_multipart=False))
        return time.perf_counter() - started

    # topics

    async def ends(self, *topics: Topic) -> Positions:
        """Return the end offset of every partition."""
        parts = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
        ends: Positions = await self._reader.end_offsets(parts)
        return ends

    async def wait_for_records(self, start: Positions, by: int) -> float:
        """Wait until `by` records came since `start`; return the moment (of `time.perf_counter`)."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (came := sum((await self._reader.end_offsets(list(start))).values()) - sum(start.values())) < by:
            if time.monotonic() > deadline:
                raise BenchmarkTimeout(
                    f"{came} of {by} records after {TIMEOUT_SECONDS:.0f} s on {next(iter(start)).topic}"
                )
            await asyncio.sleep(TICK_SECONDS)
        return time.perf_counter()

    async def records(self, start: Positions, count: int | None = None) -> list[Any]:
        """Return all records since `start`, in the order of their partitions; with `count`, wait for so many."""
        if count is None:
            count = sum((await self._reader.end_offsets(list(start))).values()) - sum(start.values())
        self._reader.assign(list(start))
        for part, offset in start.items():
            self._reader.seek(part, offset)
        found: list[Any] = []
        while len(found) < count:
            for batch in (await self._reader.getmany(timeout_ms=1000)).values():
                found += batch
        self._reader.unsubscribe()
        return found

    async def copy(self, records: Sequence[Any]) -> None:
        """Put the same bytes, keys and headers on the same partitions again."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.env["PENSTOCK_KAFKA_BOOTSTRAP"], acks="all", max_request_size=4 << 20
        )
        await producer.start()
        try:
            for one in records:
                await producer.send(
                    one.topic, one.value, key=one.key, headers=list(one.headers), partition=one.partition
                )
        finally:
            await producer.stop()

    async def send(self, event: Event) -> None:
        """Put one event on its topic, as anybody would who asks for something."""
        producer = AIOKafkaProducer(bootstrap_servers=self.env["PENSTOCK_KAFKA_BOOTSTRAP"], acks="all")
        await producer.start()
        try:
            body, key = event.model_dump_json().encode(), event.record_key.encode()
            await producer.send_and_wait(type(event).topic.name, body, key=key)
        finally:
            await producer.stop()

    async def wait_for_no_lag(self, group: str, *topics: Topic) -> float:
        """Wait until a consumer group has committed all there is; return the moment."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.env["PENSTOCK_KAFKA_BOOTSTRAP"])
        await admin.start()
        try:
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while await self._lag(admin, group, *topics) > 0:
                if time.monotonic() > deadline:
                    raise BenchmarkTimeout(f"{group} has not read all of {topics} after {TIMEOUT_SECONDS:.0f} s")
                await asyncio.sleep(2 * TICK_SECONDS)
            return time.perf_counter()
        finally:
            await admin.close()

    async def _lag(self, admin: AIOKafkaAdminClient, group: str, *topics: Topic) -> int:
        committed, ends = await admin.list_consumer_group_offsets(group), await self.ends(*topics)
        return sum(end - (committed[part].offset if part in committed else 0) for part, end in ends.items())

    # services

    @contextmanager
    def running(self, service: str, count: int = 1, **env: str) -> Iterator[list[Process]]:
        """Run `count` processes of a service, each with its share of the partitions."""
        names = [self.stack.start_service(service, number + 1, env=env) for number in range(count)]
        started = [self.stack.processes[name] for name in names]
        try:
            for process in started if service in manifests().consumers else ():
                _wait_assigned(process)
            yield started
        finally:
            for process in started:
                process.ask_to_stop()
            for process in started:
                process.wait_stopped()

    @contextmanager
    def program(self, program: Program) -> Iterator[Process]:
        """Run any other program beside the stack."""
        process = Process(program, self.stack.state_dir)
        process.start()
        try:
            process.wait_ready()
            yield process
        finally:
            process.stop()

    def servers(self, *names: str) -> list[Process]:
        return [self.stack.processes[name] for name in names]

    async def truncate(self, *tables: str) -> None:
        """Empty tables, so that what was done counts as never done."""
        connection = await asyncpg.connect(self.env["PENSTOCK_POSTGRES_DSN"])
        try:
            await connection.execute(f"TRUNCATE {', '.join(tables)}")
        finally:
            await connection.close()


def _wait_assigned(process: Process) -> None:
    (port,) = process.program.ports.values()
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health"))["assigned"]:
        if time.monotonic() > deadline:
            raise BenchmarkTimeout(f"{process.name} got no partition")
        time.sleep(0.1)


@contextmanager
def paused(processes: Sequence[Process]) -> Iterator[None]:
    """Hold `processes` still while their work is laid out, so that neither start-up nor laying out is measured."""
    for process in processes:
        process.pause()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def in_flight(items: Sequence[Any], call: Any, width: int = IN_FLIGHT) -> None:
    """Await `call` of every item, `width` of them at a time."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await call(item)

    await asyncio.gather(*(worker() for _ in range(width)))
