"""One large object: md5, sha256 and blake3 by the hasher against md5 alone by rclone."""

import asyncio
import time
from typing import Any

import bodies
import obstore
from arena import Arena, frozen
from figures import Figure, middle, ratios, turns
from material import digests_in
from scenario import Options, Result

from deploy.native.servers import base_env
from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, OBJECTS_HASHED

NAME = "large/object.bin"


async def measure(arena: Arena, options: Options) -> Result:
    """From a ready hasher and one fact to its digests told; from rclone's start to its end."""
    fact, expected = await _store(arena, options.large)
    seconds: dict[str, list[float]] = {"ours": [], "rclone": []}
    for side, counts in turns(options.pairs, ("ours", "rclone")):
        taken = await (_ours(arena, fact, expected) if side == "ours" else _rclone(arena, expected["md5"]))
        if counts:
            seconds[side].append(taken)
    figure = Figure.median(
        f"{options.large / (1 << 30):g} GiB, md5 + sha256 + blake3, over rclone md5sum (md5 alone)",
        "x the time",
        ratios(seconds["ours"], seconds["rclone"]),
        at_most=1.15,
        rate=options.large / 1e6 / middle(seconds["ours"]),
        limit="md5",
        beside={"seconds": {side: middle(runs) for side, runs in seconds.items()}},
    )
    return Result([figure], runs={"seconds": seconds})


async def _store(arena: Arena, size: int) -> tuple[Any, dict[str, str]]:
    """Store the object and have it hashed once, to warm every cache; return its fact and its digests."""
    changed, hashed = await arena.ends(OBJECTS_CHANGED), await arena.ends(OBJECTS_HASHED)
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false"), arena.running("hasher"):
        await arena.caught_up("ingest", MINIO_LIVE, MINIO_SAFE)
        await arena.caught_up("hasher", OBJECTS_CHANGED)
        changed, hashed = await arena.ends(OBJECTS_CHANGED), await arena.ends(OBJECTS_HASHED)
        await obstore.put_async(arena.bucket(), NAME, bodies.large(NAME, size))
        await arena.grown(hashed, 1)
    (fact,) = await arena.records(changed)
    return fact, bodies.digests_of(bodies.large(NAME, size))


async def _ours(arena: Arena, fact: Any, expected: dict[str, str]) -> float:
    await arena.forget("hasher.digests", "work.items")
    with arena.running("hasher") as hashers:
        await arena.caught_up("hasher", OBJECTS_CHANGED)
        before = await arena.ends(OBJECTS_HASHED)
        with frozen(hashers):
            await arena.copy([fact])
            started = time.perf_counter()
        seconds = await arena.grown(before, 1) - started
        assert digests_in(await arena.records(before)) == {NAME: expected}
    return seconds


async def _rclone(arena: Arena, md5: str) -> float:
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Minio",
        "ENDPOINT": arena.env["PENSTOCK_S3_ENDPOINT"],
        "ACCESS_KEY_ID": arena.env["PENSTOCK_S3_ACCESS_KEY"],
        "SECRET_ACCESS_KEY": arena.env["PENSTOCK_S3_SECRET_KEY"],
    }
    env = {**base_env(), **{f"RCLONE_CONFIG_BENCH_{name}": value for name, value in remote.items()}}
    command = ("rclone", "md5sum", "--download", f"bench:{bodies.BUCKET}/{NAME}")
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    told, _ = await process.communicate()
    seconds = time.perf_counter() - started
    assert told.split()[0].decode() == md5
    return seconds
