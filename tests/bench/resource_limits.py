"""What this machine could do at best: md5 on one core, and the object store under its fastest client."""

import hashlib
import time
from collections.abc import Awaitable, Callable

import bodies
import obstore
from benchmark import Benchmark, in_flight
from figures import median
from scenario import Options, Result

BLOCK = bytes(256 << 20)
LARGE = 256 << 20
BUCKET = "results"
"""No rule listens to it."""


async def measure(bench: Benchmark, options: Options) -> Result:
    """Measure each limit as often as there are pairs."""
    names, store = bodies.names("limits", options.objects), bench.bucket(BUCKET)
    await obstore.put_async(store, "limits/large", bodies.large("limits", LARGE))

    async def drain() -> None:
        async for _ in (await obstore.get_async(store, "limits/large")).stream(min_chunk_size=bodies.CHUNK):
            pass

    async def get(name: str) -> None:
        await (await obstore.get_async(store, name)).bytes_async()

    rates: dict[str, list[float]] = {name: [] for name in LIMITS}
    for _ in range(options.pairs):
        rates["md5"].append(_md5_rate())
        rates["put"].append(len(names) / await bench.put_all(names, bucket=BUCKET))
        rates["get"].append(len(names) / await _timed(lambda: in_flight(names, get)))
        rates["head"].append(
            len(names) / await _timed(lambda: in_flight(names, lambda one: obstore.head_async(store, one)))
        )
        rates["read"].append(LARGE / 1e6 / await _timed(drain))
    return Result(
        limits={
            name: {"what": what, "unit": unit, "rate": median(rates[name])} for name, (what, unit) in LIMITS.items()
        },
        runs=rates,
    )


LIMITS = {
    "md5": ("md5 by hashlib on one core", "MB/s"),
    "put": ("PUT 4 KiB, no rules, obstore, 64 in flight", "objects/s"),
    "get": ("GET 4 KiB, obstore, 64 in flight", "objects/s"),
    "head": ("HEAD, obstore, 64 in flight", "objects/s"),
    "read": ("GET of one large object, obstore", "MB/s"),
}


def _md5_rate() -> float:
    started = time.perf_counter()
    hashlib.md5(BLOCK, usedforsecurity=False)
    return len(BLOCK) / 1e6 / (time.perf_counter() - started)


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started
