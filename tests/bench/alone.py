"""Ingest alone, over a backlog of real notifications on both lanes."""

import time
from collections.abc import Sequence
from typing import Any

import bodies
from arena import Arena, frozen
from figures import Figure, middle, middles
from material import notices_of
from meters import CpuMeter
from scenario import Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED


async def measure(arena: Arena, options: Options) -> Result:
    """Every object is told twice, once a lane; a run ends when both copies are read, judged, told and committed."""
    names = bodies.names("alone", options.objects)
    notices = await notices_of(arena, names)
    rates, cpu = [], []
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false") as ingest:
        for number in range(options.pairs + 1):
            await arena.caught_up("ingest", MINIO_LIVE, MINIO_SAFE)
            seconds, used = await _run(arena, ingest, notices, len(names))
            if number:  # the first warms up
                rates.append(len(notices) / seconds)
                cpu.append(used)
    figure = Figure.median(
        "ingest alone, one process, from a backlog on both lanes",
        "events/s",
        rates,
        at_least=5000.0,
        rate=middle(rates) / 2,
        limit="head",
        beside={"objects/s": middle(rates) / 2, "CPU us an event": middles(cpu)},
    )
    return Result([figure], runs={"events_per_second": rates, "cpu_us_per_event": cpu})


async def _run(
    arena: Arena, ingest: Sequence[Any], notices: Sequence[Any], objects: int
) -> tuple[float, dict[str, float]]:
    await arena.forget("ingest.objects")
    before = await arena.ends(OBJECTS_CHANGED)
    cpu = CpuMeter({"ingest": ingest, **{one.name: [one] for one in arena.servers("minio", "kafka", "postgres")}})
    with frozen(ingest):
        await arena.copy(notices)
        cpu.start()
        started = time.perf_counter()
    seconds = await arena.caught_up("ingest", MINIO_LIVE, MINIO_SAFE) - started
    used = cpu.read(per=len(notices))
    told = len(await arena.records(before))
    assert told == objects, f"{told} facts told of {objects} objects"
    return seconds, used
