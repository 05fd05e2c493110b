"""Ingest alone, over a backlog of real notifications on both lanes."""

import time
from collections.abc import Sequence
from typing import Any

import bodies
from benchmark import Benchmark, paused
from figures import Figure, median, medians
from metrics import CpuMeter
from sample_data import notifications_of
from scenario import Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED


async def measure(bench: Benchmark, options: Options) -> Result:
    """Every object has two notifications, one a lane; a run ends when both are merged, published and committed."""
    names = bodies.names("ingest-only", options.objects)
    notifications = await notifications_of(bench, names)
    rates, cpu = [], []
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false") as ingest:
        for number in range(options.pairs + 1):
            await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE)
            seconds, used = await _run(bench, ingest, notifications, len(names))
            if number:  # the first warms up
                rates.append(len(notifications) / seconds)
                cpu.append(used)
    figure = Figure.median(
        "ingest alone, one process, from a backlog on both lanes",
        "events/s",
        rates,
        at_least=5000.0,
        rate=median(rates) / 2,
        limit="head",
        beside={"objects/s": median(rates) / 2, "CPU us an event": medians(cpu)},
    )
    return Result([figure], runs={"events_per_second": rates, "cpu_us_per_event": cpu})


async def _run(
    bench: Benchmark, ingest: Sequence[Any], notifications: Sequence[Any], objects: int
) -> tuple[float, dict[str, float]]:
    await bench.truncate("ingest.objects")
    before = await bench.ends(OBJECTS_CHANGED)
    cpu = CpuMeter({"ingest": ingest, **{one.name: [one] for one in bench.servers("minio", "kafka", "postgres")}})
    with paused(ingest):
        await bench.copy(notifications)
        cpu.start()
        started = time.perf_counter()
    seconds = await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE) - started
    used = cpu.read(per=len(notifications))
    published = len(await bench.records(before))
    assert published == objects, f"{published} facts published of {objects} objects"
    return seconds, used
