"""What an object costs through each S3 client: our own store, aiobotocore and obstore, in turns.

    python tests/bench/bench_s3_clients.py [--rounds 6] [--ends 60]

Uses the object store of the PENSTOCK_* environment and a bucket of its own, which it removes. Each client lives in a
process of its own, so that CPU (all threads) and memory are its alone; a round asks all three the same, and six rounds
take them in every order once. A ratio is a client's figure over our store's of the same round. `--ends` starts as many
processes that make one request and return, and counts those that a signal ended.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import uvloop
from typing_extensions import Buffer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from figures import ratios, rounded

from shared.settings import Settings
from shared.storage import ObjectRef, open_store

IN_FLIGHT = 64
REQUESTS = 2000
CHUNK = 1 << 20
BODY = random.Random(0).randbytes(4096)
LARGE_BYTES = 256 << 20


class Client(Protocol):
    async def head(self) -> object: ...
    async def get(self) -> bytes: ...
    async def put(self, key: str) -> object: ...
    def chunks(self) -> AsyncIterator[Buffer]: ...


@asynccontextmanager
async def ours(bucket: str, settings: Settings) -> AsyncIterator[Client]:
    async with open_store(settings) as store:

        class Ours:
            async def head(self) -> object:
                return await store.head(ObjectRef(bucket, "small"))

            async def get(self) -> bytes:
                return (await store.read(ObjectRef(bucket, "small")))[1]

            async def put(self, key: str) -> object:
                return await store.put(ObjectRef(bucket, key), BODY)

            async def chunks(self) -> AsyncIterator[Buffer]:
                async with store.stream(ObjectRef(bucket, "large"), chunk_size=CHUNK) as chunks:
                    async for chunk in chunks:
                        yield chunk

        yield Ours()


@asynccontextmanager
async def aiobotocore(bucket: str, settings: Settings) -> AsyncIterator[Client]:
    from shared.storage.admin_client import open_client  # noqa: PLC0415 - a process pays for its own client only

    small = {"Bucket": bucket, "Key": "small", "ChecksumMode": "ENABLED"}
    async with open_client(settings) as s3:

        class Aiobotocore:
            async def head(self) -> object:
                return await s3.head_object(**small)

            async def get(self) -> bytes:
                async with (await s3.get_object(**small))["Body"] as body:
                    return bytes(await body.read())

            async def put(self, key: str) -> object:
                return await s3.put_object(Bucket=bucket, Key=key, Body=BODY)

            async def chunks(self) -> AsyncIterator[Buffer]:
                async with (await s3.get_object(Bucket=bucket, Key="large"))["Body"] as body:
                    while chunk := await body.read(CHUNK):
                        yield chunk

        yield Aiobotocore()


@asynccontextmanager
async def obstore(bucket: str, settings: Settings) -> AsyncIterator[Client]:
    from obstore.store import S3Store  # noqa: PLC0415 - see aiobotocore

    s3 = S3Store(
        bucket,
        endpoint=settings.s3_endpoint,
        access_key_id=settings.s3_access_key,
        secret_access_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )

    class Obstore:
        async def head(self) -> object:
            return await s3.head_async("small")

        async def get(self) -> bytes:
            return bytes(await (await s3.get_async("small")).bytes_async())

        async def put(self, key: str) -> object:
            return await s3.put_async(key, BODY, use_multipart=False)

        async def chunks(self) -> AsyncIterator[Buffer]:
            async for chunk in (await s3.get_async("large")).stream(min_chunk_size=CHUNK):
                yield chunk

    yield Obstore()


CLIENTS: dict[str, Callable[[str, Settings], AbstractAsyncContextManager[Client]]] = {
    "ours": ours,
    "aiobotocore": aiobotocore,
    "obstore": obstore,
}


async def many(call: Callable[[int], Awaitable[object]]) -> float:
    left = iter(range(REQUESTS))

    async def worker() -> None:
        for n in left:
            await call(n)

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return REQUESTS


async def heads(client: Client) -> float:
    return await many(lambda _: client.head())


async def gets(client: Client) -> float:
    async def get(_: int) -> None:
        assert await client.get() == BODY

    return await many(get)


async def puts(client: Client) -> float:
    return await many(lambda n: client.put(f"out/{n}"))


async def drain(client: Client) -> float:
    size = 0
    async for chunk in client.chunks():
        size += len(memoryview(chunk))
    assert size == LARGE_BYTES
    return size / 1e6


OPERATIONS: dict[str, tuple[str, Callable[[Client], Awaitable[float]]]] = {
    "HEAD": ("request", heads),
    "GET 4 KiB": ("request", gets),
    "PUT 4 KiB": ("request", puts),
    "GET 256 MiB": ("MB", drain),
}
Run = dict[str, float]


async def timed(run: Awaitable[float]) -> Run:
    """Return units a second, and CPU microseconds of the whole process for each."""
    cpu, wall = time.process_time(), time.perf_counter()
    done = await run
    return {"rate": done / (time.perf_counter() - wall), "cpu": (time.process_time() - cpu) / done * 1e6}


def resident() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


async def serve(name: str, bucket: str) -> None:
    """Be the process of one client: an operation a line on standard input, its figures a line on standard output."""
    import shared.bus  # noqa: F401, PLC0415 - every service has loaded it

    before = resident()
    async with CLIENTS[name](bucket, Settings()) as client:
        print(json.dumps({"before": before, "opened": resident()}), flush=True)
        while operation := (await asyncio.to_thread(sys.stdin.readline)).strip():
            run = await timed(OPERATIONS[operation][1](client))
            print(json.dumps({**run, "resident": resident()}), flush=True)


def command(role: str, name: str, bucket: str) -> list[str]:
    return [sys.executable, __file__, f"--{role}", name, "--bucket", bucket]


async def once(name: str, bucket: str) -> None:
    """Be a process that ends right after a request."""
    async with CLIENTS[name](bucket, Settings()) as client:
        await client.get()


class Process:
    """One client in a process of its own."""

    def __init__(self, name: str, bucket: str) -> None:
        self._popen = subprocess.Popen(
            command("serve", name, bucket), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.memory = self._read_answer()

    def run(self, operation: str) -> Run:
        assert self._popen.stdin
        self._popen.stdin.write(f"{operation}\n")
        answer = self._read_answer()
        self.memory["used"] = answer["resident"]
        return answer

    def end(self) -> None:
        self._popen.communicate()

    def _read_answer(self) -> Run:
        assert self._popen.stdout
        answer: Run = json.loads(self._popen.stdout.readline())
        return answer


def aborted(name: str, bucket: str, ends: int) -> int:
    """Count the processes that a signal ended, of those that make one request and return."""
    runs = (subprocess.run(command("once", name, bucket), capture_output=True, check=False) for _ in range(ends))
    return sum(run.returncode < 0 for run in runs)


@asynccontextmanager
async def filled_bucket(settings: Settings) -> AsyncIterator[str]:
    """Make a bucket with a small object that has a checksum, and a large one; remove it with all that is in it."""
    from shared.storage.admin_client import open_client  # noqa: PLC0415 - see aiobotocore

    bucket = f"bench-clients-{os.getpid()}"
    async with open_client(settings) as s3, open_store(settings) as store:
        await s3.create_bucket(Bucket=bucket)
        try:
            small = {"Key": "small", "Body": BODY, "Metadata": {"owner": "bench"}, "ChecksumAlgorithm": "CRC32"}
            await s3.put_object(Bucket=bucket, **small)
            await store.put(ObjectRef(bucket, "large"), os.urandom(LARGE_BYTES))
            yield bucket
        finally:
            async for page in store.list(bucket):
                for info in page:
                    await store.delete(info.ref)
            await s3.delete_bucket(Bucket=bucket)


async def measure(rounds: int, ends: int) -> dict[str, Any]:
    async with filled_bucket(Settings()) as bucket:
        processes = {name: Process(name, bucket) for name in CLIENTS}
        try:
            operations = {name: alternate(processes, name, rounds) for name in OPERATIONS}
        finally:
            for process in processes.values():
                process.end()
        return {
            "operations": operations,
            "memory": {name: process.memory for name, process in processes.items()},
            "aborted": {name: aborted(name, bucket, ends) for name in CLIENTS},
        }


def alternate(processes: Mapping[str, Process], operation: str, rounds: int) -> dict[str, list[Run]]:
    for process in processes.values():
        process.run(operation)  # warm: connections, caches
    runs: dict[str, list[Run]] = {name: [] for name in processes}
    orders = itertools.cycle(itertools.permutations(processes))
    for order in itertools.islice(orders, rounds):
        for name in order:
            runs[name].append(processes[name].run(operation))
    return runs


def spread(values: Sequence[float]) -> str:
    """Write the median, and the range around it."""
    middle, low, high = (f"{rounded(value):,g}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def rows(operation: str, runs: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    unit = OPERATIONS[operation][0]
    for figure, what in (("rate", f"{unit}/s"), ("cpu", f"CPU us per {unit}")):
        taken = {name: [run[figure] for run in runs[name]] for name in CLIENTS}
        others = [spread(ratios(taken[name], taken["ours"])) for name in CLIENTS if name != "ours"]
        yield f"| {operation}, {what} | {' | '.join([*map(spread, taken.values()), *others])} |"


def table(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| | ours | aiobotocore | obstore | aiobotocore / ours | obstore / ours |"
    yield "|---|---|---|---|---|---|"
    for operation, runs in found["operations"].items():
        yield from rows(operation, runs)
    for moment, what in (("before", "with the bus loaded"), ("opened", "client opened"), ("used", "after all rounds")):
        cells = (f"{memory[moment]:.0f}" for memory in found["memory"].values())
        yield f"| resident MiB, {what} | {' | '.join(cells)} | | |"
    yield f"| processes aborted at their end | {' | '.join(map(str, found['aborted'].values()))} | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--ends", type=int, default=60)
    parser.add_argument("--serve", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--once", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--bucket", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        uvloop.run(serve(given.serve, given.bucket))
        return
    if given.once:
        asyncio.run(once(given.once, given.bucket))  # under uvloop none was seen to abort
        return
    before = os.getloadavg()[0]
    found = uvloop.run(measure(given.rounds, given.ends))
    print(
        f"{given.rounds} rounds, {given.ends} ends each, load {before:.1f} before and {os.getloadavg()[0]:.1f} after\n"
    )
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
