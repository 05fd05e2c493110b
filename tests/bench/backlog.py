"""A backlog of small objects, one process per core on each side: Penstock's hasher against Celery's workers."""

import time
from collections.abc import Sequence
from typing import Any

import bodies
from arena import Arena, frozen
from figures import Figure, middle, middles, ratios, turns
from material import digests_in, facts_of
from meters import CpuMeter
from peer import celery_workers, redis_server
from scenario import CORES, Options, Result

from deploy.native.process import Process
from shared.topics import OBJECTS_CHANGED, OBJECTS_HASHED


async def measure(arena: Arena, options: Options) -> Result:
    """Both sides start from ready workers and a full queue, and end when every result is stored and told."""
    names = bodies.names("backlog", options.objects)
    facts = await facts_of(arena, names)
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    cpu: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    with redis_server(arena) as (redis, address):
        for side, counts in turns(options.pairs, ("ours", "peer")):
            turn = _ours(arena, facts, names) if side == "ours" else _peer(arena, redis, address, names)
            seconds, used = await turn
            if counts:
                rates[side].append(len(names) / seconds)
                cpu[side].append(used)
    figure = Figure.median(
        f"backlog of {len(names):,} x 4 KiB, {CORES} processes a side, over Celery",
        "x",
        ratios(rates["ours"], rates["peer"]),
        at_least=3.0,
        rate=middle(rates["ours"]),
        limit="get",
        beside={
            "objects/s": {side: middle(runs) for side, runs in rates.items()},
            "CPU us an object": {side: middles(runs) for side, runs in cpu.items()},
        },
    )
    return Result([figure], runs={"objects_per_second": rates, "cpu_us_per_object": cpu})


async def _ours(arena: Arena, facts: Sequence[Any], names: Sequence[str]) -> tuple[float, dict[str, float]]:
    with arena.running("hasher", CORES) as hashers:
        await arena.caught_up("hasher", OBJECTS_CHANGED)
        await arena.forget("hasher.digests")
        before = await arena.ends(OBJECTS_HASHED)
        cpu = CpuMeter({"workers": hashers, **{one.name: [one] for one in arena.servers("minio", "kafka", "postgres")}})
        with frozen(hashers):
            await arena.copy(facts)
            cpu.start()
            started = time.perf_counter()
        seconds = await arena.grown(before, len(names)) - started
        used = cpu.read(per=len(names))
        bodies.check(digests_in(await arena.records(before)), names, bodies.SMALL)
    return seconds, used


async def _peer(arena: Arena, redis: Process, address: str, names: Sequence[str]) -> tuple[float, dict[str, float]]:
    with celery_workers(arena, address, CORES) as peer:
        cpu = CpuMeter({"workers": [peer.workers], "minio": arena.servers("minio"), "redis": [redis]})
        with frozen([peer.workers]):
            ids = peer.lay_out(bodies.BUCKET, names)
            cpu.start()
            started = time.perf_counter()
        seconds = await peer.done(len(names)) - started
        used = cpu.read(per=len(names))
        bodies.check(peer.collect(names, ids), names, bodies.SMALL)
    return seconds, used
