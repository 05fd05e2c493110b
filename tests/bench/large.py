"""One large object: md5, sha256 and blake3 by the hasher against md5 alone by rclone."""

import asyncio
import time
from typing import Any

import bodies
import obstore
from benchmark import Benchmark, paused
from figures import Figure, alternating_runs, median, ratios
from sample_data import digests_in
from scenario import Options, Result

from deploy.native.servers import base_env
from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, OBJECTS_HASHED

NAME = "large/object.bin"


async def measure(bench: Benchmark, options: Options) -> Result:
    """From a ready hasher and one fact to its digests told; from rclone's start to its end."""
    fact, expected = await _store(bench, options.large)
    seconds: dict[str, list[float]] = {"ours": [], "rclone": []}
    for side, counts in alternating_runs(options.pairs, ("ours", "rclone")):
        taken = await (_ours(bench, fact, expected) if side == "ours" else _rclone(bench, expected["md5"]))
        if counts:
            seconds[side].append(taken)
    figure = Figure.median(
        f"{options.large / (1 << 30):g} GiB, md5 + sha256 + blake3, over rclone md5sum (md5 alone)",
        "x the time",
        ratios(seconds["ours"], seconds["rclone"]),
        at_most=1.15,
        rate=options.large / 1e6 / median(seconds["ours"]),
        limit="md5",
        beside={"seconds": {side: median(runs) for side, runs in seconds.items()}},
    )
    return Result([figure], runs={"seconds": seconds})


async def _store(bench: Benchmark, size: int) -> tuple[Any, dict[str, str]]:
    """Store the object and have it hashed once, to warm every cache; return its fact and its digests."""
    changed, hashed = await bench.ends(OBJECTS_CHANGED), await bench.ends(OBJECTS_HASHED)
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"), bench.running("hasher"):
        await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE)
        await bench.wait_for_no_lag("hasher", OBJECTS_CHANGED)
        changed, hashed = await bench.ends(OBJECTS_CHANGED), await bench.ends(OBJECTS_HASHED)
        await obstore.put_async(bench.bucket(), NAME, bodies.large(NAME, size))
        await bench.wait_for_records(hashed, 1)
    (fact,) = await bench.records(changed)
    return fact, bodies.digests_of(bodies.large(NAME, size))


async def _ours(bench: Benchmark, fact: Any, expected: dict[str, str]) -> float:
    await bench.truncate("hasher.digests", "work.items")
    with bench.running("hasher") as hashers:
        await bench.wait_for_no_lag("hasher", OBJECTS_CHANGED)
        before = await bench.ends(OBJECTS_HASHED)
        with paused(hashers):
            await bench.copy([fact])
            started = time.perf_counter()
        seconds = await bench.wait_for_records(before, 1) - started
        assert digests_in(await bench.records(before)) == {NAME: expected}
    return seconds


async def _rclone(bench: Benchmark, md5: str) -> float:
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Minio",
        "ENDPOINT": bench.env["PENSTOCK_S3_ENDPOINT"],
        "ACCESS_KEY_ID": bench.env["PENSTOCK_S3_ACCESS_KEY"],
        "SECRET_ACCESS_KEY": bench.env["PENSTOCK_S3_SECRET_KEY"],
    }
    env = {**base_env(), **{f"RCLONE_CONFIG_BENCH_{name}": value for name, value in remote.items()}}
    command = ("rclone", "md5sum", "--download", f"bench:{bodies.BUCKET}/{NAME}")
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    seconds = time.perf_counter() - started
    assert output.split()[0].decode() == md5
    return seconds
