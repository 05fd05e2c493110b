"""Live: objects stored as fast as the object store takes them, hashed as they come."""

import time

import bodies
from arena import Arena
from figures import Figure, abba, middle, ratios
from material import digests_in
from scenario import Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, OBJECTS_HASHED


async def measure(arena: Arena, options: Options) -> Result:
    """The rate from the first PUT to the last digest, over the rate of the same PUTs with nobody behind the rules."""
    rates: dict[str, list[float]] = {"accepted": [], "hashed": [], "accepted_meanwhile": []}
    for pair in range(options.pairs):
        for side in abba(pair, ("hashed", "accepted")):
            names = bodies.names(f"live-{pair}-{side}", options.objects)
            if side == "accepted":
                rates["accepted"].append(len(names) / await _store(arena, names))
            else:
                whole, putting = await _hash(arena, names)
                rates["hashed"].append(len(names) / whole)
                rates["accepted_meanwhile"].append(len(names) / putting)
    figure = Figure.median(
        "live, first PUT to last digest, over PUTs with the same rules and no consumer",
        "x",
        ratios(rates["hashed"], rates["accepted"]),
        at_least=0.95,
        rate=middle(rates["hashed"]),
        limit="put",
        beside={"objects/s": {side: middle(runs) for side, runs in rates.items()}},
    )
    return Result([figure], runs={"objects_per_second": rates})


async def _store(arena: Arena, names: list[str]) -> float:
    safe = await arena.ends(MINIO_SAFE)
    seconds = await arena.put_all(names)
    await arena.grown(safe, len(names))  # the next run begins with an empty queue
    return seconds


async def _hash(arena: Arena, names: list[str]) -> tuple[float, float]:
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false"), arena.running("hasher"):
        await arena.caught_up("ingest", MINIO_LIVE, MINIO_SAFE)
        await arena.caught_up("hasher", OBJECTS_CHANGED)
        before, safe = await arena.ends(OBJECTS_HASHED), await arena.ends(MINIO_SAFE)
        putting = await arena.put_all(names)
        ended = time.perf_counter()
        whole = await arena.grown(before, len(names)) - ended + putting
        bodies.check(digests_in(await arena.records(before)), names, bodies.SMALL)
        await arena.grown(safe, len(names))
    return whole, putting
