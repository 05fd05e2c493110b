"""An idle system: from a PUT to its fact on objects.hashed.v1."""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from functools import partial

import bodies
import obstore
from aiokafka import AIOKafkaConsumer
from benchmark import Benchmark
from figures import Figure, rounded
from scenario import Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, OBJECTS_HASHED

WARM_UP = 20
PAUSE_SECONDS = (0.02, 0.12)


async def measure(bench: Benchmark, options: Options) -> Result:
    """Time over the PUT alone: from the PUT's start to its digests, less the median PUT where no rule listens."""
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"), bench.running("hasher"):
        await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE)
        await bench.wait_for_no_lag("hasher", OBJECTS_CHANGED)
        consumer = AIOKafkaConsumer(OBJECTS_HASHED.name, bootstrap_servers=bench.env["PENSTOCK_KAFKA_BOOTSTRAP"])
        await consumer.start()
        try:
            await _sample(bench, consumer, WARM_UP, "warm-up")
            taken = await _sample(bench, consumer, options.samples, "latency")
        finally:
            await consumer.stop()
    put_only = statistics.median(taken["put_without_rules"])
    over = [until_hashed - put_only for until_hashed in taken["hashed"]]
    percentiles = {name: _percentiles(samples) for name, samples in taken.items()}
    beside = {"ms (p50, p95)": percentiles}
    figures = [
        Figure(
            f"PUT to objects.hashed.v1 over the PUT alone, idle, {name}",
            "ms",
            value,
            rounded(min(over)),
            rounded(max(over)),
            at_most=goal,
            beside=beside,
        )
        for name, goal, value in zip(("p50", "p95"), (25.0, 60.0), _percentiles(over), strict=True)
    ]
    return Result(figures, runs={name: [rounded(one) for one in samples] for name, samples in taken.items()})


def _percentiles(samples: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(samples, n=20, method="inclusive")
    return rounded(cuts[9]), rounded(cuts[18])


def _note(samples: list[float], started: float, _answered: object) -> None:
    samples.append((time.perf_counter() - started) * 1e3)


async def _sample(bench: Benchmark, consumer: AIOKafkaConsumer, count: int, prefix: str) -> dict[str, list[float]]:
    """Return milliseconds: of the PUT, of a PUT where no rule listens, and from the PUT's start to its digests."""
    taken: dict[str, list[float]] = {"put": [], "put_without_rules": [], "hashed": []}
    watched, silent = bench.bucket(), bench.bucket("results")
    for name in bodies.names(prefix, count):
        body = bodies.body(name, bodies.SMALL)
        await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
        started = time.perf_counter()
        await obstore.put_async(silent, name, body, use_multipart=False)
        taken["put_without_rules"].append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
        answered = asyncio.ensure_future(obstore.put_async(watched, name, body, use_multipart=False))
        answered.add_done_callback(partial(_note, taken["put"], started))
        while (await consumer.getone()).key != f"{bodies.BUCKET}/{name}".encode():
            pass
        taken["hashed"].append((time.perf_counter() - started) * 1e3)
        await answered
    return taken
