"""A backlog of small objects, one process per core on each side: Penstock's hasher against Celery's workers."""

import time
from collections.abc import Sequence
from typing import Any

import bodies
from benchmark import Benchmark, paused
from figures import Figure, alternating_runs, median, medians, ratios
from metrics import CpuMeter
from peer import celery_workers, redis_server
from sample_data import digests_in, facts_of
from scenario import CORES, Options, Result

from deploy.native.process import Process
from shared.topics import OBJECTS_CHANGED, OBJECTS_HASHED


async def measure(bench: Benchmark, options: Options) -> Result:
    """Both sides start from ready workers and a full queue, and end when every result is stored and told."""
    names = bodies.names("backlog", options.objects)
    facts = await facts_of(bench, names)
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    cpu: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    with redis_server(bench) as (redis, address):
        for side, counts in alternating_runs(options.pairs, ("ours", "peer")):
            turn = _ours(bench, facts, names) if side == "ours" else _peer(bench, redis, address, names)
            seconds, used = await turn
            if counts:
                rates[side].append(len(names) / seconds)
                cpu[side].append(used)
    figure = Figure.median(
        f"backlog of {len(names):,} x 4 KiB, {CORES} processes a side, over Celery",
        "x",
        ratios(rates["ours"], rates["peer"]),
        at_least=3.0,
        rate=median(rates["ours"]),
        limit="get",
        beside={
            "objects/s": {side: median(runs) for side, runs in rates.items()},
            "CPU us an object": {side: medians(runs) for side, runs in cpu.items()},
        },
    )
    return Result([figure], runs={"objects_per_second": rates, "cpu_us_per_object": cpu})


async def _ours(bench: Benchmark, facts: Sequence[Any], names: Sequence[str]) -> tuple[float, dict[str, float]]:
    with bench.running("hasher", CORES) as hashers:
        await bench.wait_for_no_lag("hasher", OBJECTS_CHANGED)
        await bench.truncate("hasher.digests")
        before = await bench.ends(OBJECTS_HASHED)
        cpu = CpuMeter({"workers": hashers, **{one.name: [one] for one in bench.servers("minio", "kafka", "postgres")}})
        with paused(hashers):
            await bench.copy(facts)
            cpu.start()
            started = time.perf_counter()
        seconds = await bench.wait_for_records(before, len(names)) - started
        used = cpu.read(per=len(names))
        bodies.check(digests_in(await bench.records(before)), names, bodies.SMALL)
    return seconds, used


async def _peer(bench: Benchmark, redis: Process, address: str, names: Sequence[str]) -> tuple[float, dict[str, float]]:
    with celery_workers(bench, address, CORES) as peer:
        cpu = CpuMeter({"workers": [peer.workers], "minio": bench.servers("minio"), "redis": [redis]})
        with paused([peer.workers]):
            ids = peer.enqueue(bodies.BUCKET, names)
            cpu.start()
            started = time.perf_counter()
        seconds = await peer.done(len(names)) - started
        used = cpu.read(per=len(names))
        bodies.check(peer.collect(names, ids), names, bodies.SMALL)
    return seconds, used
