"""Live: objects stored as fast as the object store takes them, hashed as they come."""

import time
from collections.abc import Sequence

import bodies
from arena import Arena
from figures import Figure, middle, middles, ratios, turns
from material import digests_in
from meters import CpuMeter
from scenario import Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, OBJECTS_HASHED


async def measure(arena: Arena, options: Options) -> Result:
    """The rate from the first PUT to the last digest, over the rate of the same PUTs with nobody behind the rules."""
    rates: dict[str, list[float]] = {"accepted": [], "hashed": []}
    cpu: dict[str, list[dict[str, float]]] = {"accepted": [], "hashed": []}
    kept_up: list[float] = []
    for number, (side, counts) in enumerate(turns(options.pairs, ("accepted", "hashed"))):
        names = bodies.names(f"live-{number}", options.objects)
        seconds, used, kept = await (_store(arena, names) if side == "accepted" else _hash(arena, names))
        if counts:
            kept_up += kept
            rates[side].append(len(names) / seconds)
            cpu[side].append(used)
    figure = Figure.median(
        "live, first PUT to last digest, over PUTs with the same rules and no consumer",
        "x",
        ratios(rates["hashed"], rates["accepted"]),
        at_least=0.95,
        rate=middle(rates["hashed"]),
        limit="put",
        beside={
            "objects/s": {side: middle(runs) for side, runs in rates.items()},
            "hashed over accepted in the same run": middle(kept_up),
            "CPU us an object": {side: middles(runs) for side, runs in cpu.items()},
        },
    )
    return Result([figure], runs={"objects_per_second": rates, "kept_up": kept_up, "cpu_us_per_object": cpu})


async def _store(arena: Arena, names: Sequence[str]) -> tuple[float, dict[str, float], list[float]]:
    safe = await arena.ends(MINIO_SAFE)
    cpu = CpuMeter({one.name: [one] for one in arena.servers("minio", "kafka")})
    cpu.start()
    seconds = await arena.put_all(names)
    used = cpu.read(per=len(names))
    await arena.grown(safe, len(names))  # the next run begins with an empty queue
    return seconds, used, []


async def _hash(arena: Arena, names: Sequence[str]) -> tuple[float, dict[str, float], list[float]]:
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false") as ingest, arena.running("hasher") as hasher:
        await arena.caught_up("ingest", MINIO_LIVE, MINIO_SAFE)
        await arena.caught_up("hasher", OBJECTS_CHANGED)
        before, safe = await arena.ends(OBJECTS_HASHED), await arena.ends(MINIO_SAFE)
        cpu = CpuMeter({one.name: [one] for one in (*ingest, *hasher, *arena.servers("minio", "kafka", "postgres"))})
        cpu.start()
        putting, ended = await arena.put_all(names), time.perf_counter()
        seconds = await arena.grown(before, len(names)) - ended + putting
        used = cpu.read(per=len(names))
        bodies.check(digests_in(await arena.records(before)), names, bodies.SMALL)
        await arena.grown(safe, len(names))
    return seconds, used, [putting / seconds]
