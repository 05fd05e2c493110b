"""Live: objects stored as fast as the object store takes them, hashed as they come."""

import time
from collections.abc import Sequence

import bodies
from benchmark import Benchmark
from figures import Figure, alternating_runs, median, medians, ratios
from metrics import CpuMeter
from sample_data import digests_in
from scenario import Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, OBJECTS_HASHED


async def measure(bench: Benchmark, options: Options) -> Result:
    """The rate from the first PUT to the last digest, over the rate of the same PUTs with nobody behind the rules."""
    rates: dict[str, list[float]] = {"accepted": [], "hashed": []}
    cpu: dict[str, list[dict[str, float]]] = {"accepted": [], "hashed": []}
    kept_up: list[float] = []
    for number, (side, counts) in enumerate(alternating_runs(options.pairs, ("accepted", "hashed"))):
        names = bodies.names(f"live-{number}", options.objects)
        seconds, used, kept = await (_store(bench, names) if side == "accepted" else _hash(bench, names))
        if counts:
            kept_up += kept
            rates[side].append(len(names) / seconds)
            cpu[side].append(used)
    figure = Figure.median(
        "live, first PUT to last digest, over PUTs with the same rules and no consumer",
        "x",
        ratios(rates["hashed"], rates["accepted"]),
        at_least=0.95,
        rate=median(rates["hashed"]),
        limit="put",
        beside={
            "objects/s": {side: median(runs) for side, runs in rates.items()},
            "hashed over accepted in the same run": median(kept_up),
            "CPU us an object": {side: medians(runs) for side, runs in cpu.items()},
        },
    )
    return Result([figure], runs={"objects_per_second": rates, "kept_up": kept_up, "cpu_us_per_object": cpu})


async def _store(bench: Benchmark, names: Sequence[str]) -> tuple[float, dict[str, float], list[float]]:
    safe = await bench.ends(MINIO_SAFE)
    cpu = CpuMeter({one.name: [one] for one in bench.servers("minio", "kafka")})
    cpu.start()
    seconds = await bench.put_all(names)
    used = cpu.read(per=len(names))
    await bench.wait_for_records(safe, len(names))  # the next run begins with an empty queue
    return seconds, used, []


async def _hash(bench: Benchmark, names: Sequence[str]) -> tuple[float, dict[str, float], list[float]]:
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false") as ingest, bench.running("hasher") as hasher:
        await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE)
        await bench.wait_for_no_lag("hasher", OBJECTS_CHANGED)
        before, safe = await bench.ends(OBJECTS_HASHED), await bench.ends(MINIO_SAFE)
        cpu = CpuMeter({one.name: [one] for one in (*ingest, *hasher, *bench.servers("minio", "kafka", "postgres"))})
        cpu.start()
        putting, ended = await bench.put_all(names), time.perf_counter()
        seconds = await bench.wait_for_records(before, len(names)) - ended + putting
        used = cpu.read(per=len(names))
        bodies.check(digests_in(await bench.records(before)), names, bodies.SMALL)
        await bench.wait_for_records(safe, len(names))
    return seconds, used, [putting / seconds]
