"""Which S3 client does which operation best: the two of `shared.storage`, alternating, as pairs.

    python tests/bench/bench_s3_clients.py [--pairs 6]

Uses the object store of the PENSTOCK_* environment and a bucket of its own, which it removes. CPU is the
client's own, over all its threads; a ratio is obstore's figure over aiobotocore's of the same pair.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shared.settings import Settings
from shared.storage import ObjectRef
from shared.storage.bulk import BulkClient
from shared.storage.rich import RichClient, open_client

BUCKET = f"bench-clients-{os.getpid()}"
IN_FLIGHT = 64
SMALL = ObjectRef(BUCKET, "small")
LARGE = ObjectRef(BUCKET, "large")
LARGE_BYTES = 256 << 20
BODY = os.urandom(4096)
REQUESTS = 1500


async def many(call: Callable[[], Awaitable[object]]) -> float:
    left = iter(range(REQUESTS))

    async def worker() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return REQUESTS


async def drain(client) -> float:
    size = 0
    async with client.stream(LARGE, None, 0, None, 1 << 20) as chunks:
        async for chunk in chunks:
            size += len(chunk)
    assert size == LARGE_BYTES
    return size / 1e6


def operations(client, *, rich: bool) -> dict[str, Callable[[], Awaitable[float]]]:
    head = (lambda: client.head(SMALL, checksums=False)) if rich else (lambda: client.head(SMALL))
    return {
        "HEAD, requests/s": lambda: many(head),
        "GET 4 KiB, requests/s": lambda: many(lambda: client.read(SMALL, None)),
        "PUT 4 KiB, requests/s": lambda: many(lambda: client.put(ObjectRef(BUCKET, "out"), BODY, {}, None)),
        "GET 256 MiB, MB/s": lambda: drain(client),
    }


async def timed(run: Callable[[], Awaitable[float]]) -> tuple[float, float]:
    """Return the rate, and CPU microseconds per request (or per MB)."""
    cpu, wall = time.process_time(), time.perf_counter()
    done = await run()
    return done / (time.perf_counter() - wall), (time.process_time() - cpu) / done * 1e6


async def compare(settings: Settings, pairs: int) -> dict[str, dict[str, object]]:
    async with open_client(settings) as raw:
        rich = RichClient(raw, settings)
        await raw.create_bucket(Bucket=BUCKET)
        try:
            await rich.put(SMALL, BODY, {"owner": "bench"}, None)
            await rich.put(LARGE, os.urandom(LARGE_BYTES), {}, None)
            clients = {
                "obstore": operations(BulkClient(settings), rich=False),
                "aiobotocore": operations(rich, rich=True),
            }
            return {name: await measure(name, clients, pairs) for name in clients["obstore"]}
        finally:
            for key in ("small", "large", "out"):
                await raw.delete_object(Bucket=BUCKET, Key=key)
            await raw.delete_bucket(Bucket=BUCKET)


async def measure(name: str, clients, pairs: int) -> dict[str, object]:
    for one in clients.values():
        await one[name]()  # warm: connections, caches
    taken = {client: [] for client in clients}
    for pair in range(pairs):
        for client in list(clients) if pair % 2 == 0 else list(clients)[::-1]:
            taken[client].append(await timed(clients[client][name]))
    ratios = [ours[0] / theirs[0] for ours, theirs in zip(taken["obstore"], taken["aiobotocore"], strict=True)]
    return {
        **{
            client: {
                "rate": round(statistics.median(rate for rate, _ in runs)),
                "cpu_us": round(statistics.median(cpu for _, cpu in runs)),
            }
            for client, runs in taken.items()
        },
        "ratio": [round(f, 2) for f in (statistics.median(ratios), min(ratios), max(ratios))],
    }


MEMORY = """
import asyncio, sys
sys.path.insert(0, {root!r})
import shared.bus, shared.settings
from shared.storage import ObjectRef, open_store
def rss():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
async def main():
    async with open_store(shared.settings.Settings()) as store:
        idle = rss()
        async def ask():
            try:
                await store.head(ObjectRef("no-such-bucket", "key"), checksums={rich})
            except Exception:
                pass
        await asyncio.gather(*(ask() for _ in range(64)))
        print(idle, rss())
asyncio.run(main())
"""


def memory(*, rich: bool) -> dict[str, float]:
    """MiB resident before the first request, and after 64 at once, in a process that has loaded the bus."""
    code = MEMORY.format(root=str(Path(__file__).resolve().parents[2]), rich=rich)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after = map(float, told.split())
    return {"before": round(before, 1), "after": round(after, 1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=6)
    pairs = parser.parse_args().pairs
    found = uvloop.run(compare(Settings(), pairs))
    mib = {"obstore": memory(rich=False), "aiobotocore": memory(rich=True)}
    print("| operation | obstore (CPU us) | aiobotocore (CPU us) | ratio, median (range) |")
    print("|---|---|---|---|")
    for name, row in found.items():
        ours, theirs, (median, low, high) = row["obstore"], row["aiobotocore"], row["ratio"]
        cells = [f"{side['rate']:,} ({side['cpu_us']:,})" for side in (ours, theirs)]
        print(f"| {name} | {cells[0]} | {cells[1]} | {median} ({low}-{high}) |")
    print(f"| resident, MiB, before and after 64 requests | {mib['obstore']} | {mib['aiobotocore']} | |")
    print(json.dumps({"pairs": pairs, "operations": found, "memory_mib": mib}))


if __name__ == "__main__":
    main()
