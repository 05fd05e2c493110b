"""Memory: every service idle, and the hasher under all kinds of load at once."""

import asyncio
from contextlib import ExitStack

import bodies
import obstore
from benchmark import Benchmark
from figures import Figure
from metrics import peak, rss
from scenario import Options, Result

from services import catalogue
from services.hasher.settings import HasherSettings
from shared.topics import OBJECTS_HASHED

SETTLE_SECONDS = 15
MEDIUM_OBJECTS = 100
IDLE_GOAL, LOADED_GOAL = 120.0, 200.0


async def measure(bench: Benchmark, options: Options) -> Result:
    """Resident MiB after start, the peak while everything comes at once, and idle again afterwards."""
    small = bodies.names("resident/small", options.objects)
    medium = bodies.names("resident/medium", MEDIUM_OBJECTS)
    limit = HasherSettings.model_fields["hasher_large_bytes"].default  # the largest that is read whole
    with ExitStack() as stack:
        running = {name: stack.enter_context(bench.running(name))[0] for name in catalogue.names()}
        await asyncio.sleep(SETTLE_SECONDS)
        fresh = {name: rss(process) for name, process in running.items()}
        before = await bench.ends(OBJECTS_HASHED)
        await obstore.put_async(bench.bucket(), "resident/large.bin", bodies.large("resident", options.large))
        await bench.put_all(medium, limit)
        await bench.put_all(small)
        await bench.wait_for_records(before, len(small) + len(medium) + 1)
        peaks = {name: peak(process) for name, process in running.items()}
        await asyncio.sleep(SETTLE_SECONDS)
        rested = {name: rss(process) for name, process in running.items()}
    figures = [
        *(_figure(f"{name} idle, fresh", value, IDLE_GOAL) for name, value in fresh.items()),
        *(_figure(f"{name} idle, after load", value, IDLE_GOAL) for name, value in rested.items()),
        _figure("hasher, peak under load", peaks["hasher"], LOADED_GOAL),
    ]
    return Result(figures, runs={"fresh": fresh, "peak": peaks, "after_load": rested})


def _figure(name: str, value: float, goal: float) -> Figure:
    return Figure(f"memory of {name}", "MiB", value, value, value, at_most=goal)
