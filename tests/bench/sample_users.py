"""Users whose rows follow from their number, as files of any size, and the etl that reads them."""

import asyncio
import json
import struct
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg
import obstore
from benchmark import Benchmark, BenchmarkTimeout, in_flight, paused

from deploy.native.process import Process
from shared.events import EtlRequested
from shared.topics import ETL_COMPLETED, ETL_REQUESTED, OBJECTS_CHANGED, OBJECTS_HASHED

BUCKET = "src-data"
DATASET = "users"
HEADER = b"user_id,first_name,last_name,birthts\n"
CHUNK_ROWS = 50_000
TIMEOUT_SECONDS = 900.0
TICK_SECONDS = 0.02
FINGERPRINT = (
    "select count(*), sum(hashtextextended(concat_ws('|', user_id, first_name, last_name, birthts), 0)) from {}"
)


def row(number: int) -> str:
    """Return the cells of one user, but for the key."""
    return f"Name{number % 9973},Surname{number % 99991},{(number * 7919 % 34_000 - 22_000) * 86_400_000}"


def large_csv(rows: int) -> Iterator[bytes]:
    """Return a file of so many users, in pieces."""
    yield HEADER
    for start in range(0, rows, CHUNK_ROWS):
        numbers = range(start, min(start + CHUNK_ROWS, rows))
        yield "".join(f"{10_000_000 + number},{row(number)}\n" for number in numbers).encode()


def small_csv(number: int) -> bytes:
    """Return the contract's file of one user."""
    return f"first_name, last_name, birthts\n{row(number)}\n".encode()


def image(number: int) -> bytes:
    """Return a small PNG, each another."""
    width, height = 8 + number % 56, 8 + number // 56 % 56
    pixels = zlib.compress(b"".join(b"\0" + number.to_bytes(4, "big") * (width // 4 + 1) for _ in range(height)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def pairs(count: int) -> list[tuple[str, bytes]]:
    """Return the objects of so many users: a file and an image each."""
    numbers = range(count)
    return [
        (f"{20_000_000 + number}{ending}", make(number))
        for number in numbers
        for ending, make in ((".csv", small_csv), (".png", image))
    ]


async def put_all(bench: Benchmark, objects: Sequence[tuple[str, bytes]]) -> None:
    """Store objects, many in flight."""
    store = bench.bucket(BUCKET)
    await in_flight(objects, lambda one: obstore.put_async(store, one[0], one[1], use_multipart=False))


@contextmanager
def etl(bench: Benchmark, count: int = 1, **env: str) -> Iterator[list[Process]]:
    """Run processes of etl, which load nothing by the clock."""
    with bench.running("etl", count, **{"PENSTOCK_ETL_INTERVAL": "0", "PENSTOCK_ETL_SEED": "false"} | env) as processes:
        yield processes


async def wait_until_idle(bench: Benchmark) -> None:
    """Wait until etl has read all its topics, has no work, and its files show its tables."""
    await bench.wait_for_no_lag("etl", OBJECTS_CHANGED, OBJECTS_HASHED, ETL_REQUESTED)
    await until(bench, "select not exists (select from work.items where state in ('pending', 'running'))")
    await until(bench, "select written = changed from etl.exports where dataset = $1", DATASET)


async def truncate(bench: Benchmark) -> None:
    """Let nothing be known of any object or load."""
    await bench.truncate(f"etl.{DATASET}", "etl.rejects", "etl.images", "etl.sources", "etl.loads", "work.items")


async def until(bench: Benchmark, question: str, *values: Any) -> float:
    """Wait until the answer is true; return the moment."""
    connection = await asyncpg.connect(bench.env["PENSTOCK_POSTGRES_DSN"])
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not await connection.fetchval(question, *values):
            if time.monotonic() > deadline:
                raise BenchmarkTimeout(f"not after {TIMEOUT_SECONDS:.0f} s: {question} {values}")
            await asyncio.sleep(TICK_SECONDS)
        return time.perf_counter()
    finally:
        await connection.close()


async def fingerprint(bench: Benchmark, table: str) -> tuple[int, Any]:
    """Return how many rows a table has, and a sum that tells every cell of it."""
    connection = await asyncpg.connect(bench.env["PENSTOCK_POSTGRES_DSN"])
    try:
        return tuple(await connection.fetchrow(FINGERPRINT.format(table), timeout=TIMEOUT_SECONDS))
    finally:
        await connection.close()


async def execute(bench: Benchmark, statement: str, *values: Any) -> None:
    """Run a statement of the measuring side."""
    connection = await asyncpg.connect(bench.env["PENSTOCK_POSTGRES_DSN"])
    try:
        await connection.execute(statement, *values, timeout=TIMEOUT_SECONDS)
    finally:
        await connection.close()


async def load(bench: Benchmark) -> dict[str, Any]:
    """Ask for a full load; return what it says of itself, and the seconds from the request to its fact."""
    before = await bench.ends(ETL_COMPLETED)
    request = EtlRequested(load_id=f"bench-{uuid.uuid4().hex}", dataset=DATASET)
    started = time.perf_counter()
    await bench.send(request)
    (fact,) = await bench.records(before, 1)
    return {**json.loads(fact.value), "seconds": time.perf_counter() - started}


async def publish_backlog(bench: Benchmark, processes: Sequence[Process], facts: Sequence[Any]) -> float:
    """Lay out a backlog before frozen processes; return the moment of their release."""
    with paused(processes):
        await bench.copy(facts)
        return time.perf_counter()
