"""Uploads over HTTP: the ingress against FastAPI's UploadFile with boto3, and against clients of the store itself."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import bodies
import obstore
from benchmark import Benchmark, free_ports, in_flight
from figures import Figure, alternating_runs, median, ratios
from scenario import Options, Result

from deploy.native import ready
from deploy.native.install import Installer
from deploy.native.process import Program
from deploy.native.servers import base_env

SMALL = 64 << 10
WIDTH = 16
PEERS_FORMS = "python-multipart==0.0.20"


async def measure(bench: Benchmark, options: Options) -> Result:
    """A large form and many small ones, both sides into the same bucket under the same notification rules."""
    file = bench.stack.state_dir / "large.bin"
    await asyncio.to_thread(_write, file, options.large)
    expected = bodies.digests_of(bodies.large(file.name, options.large))["md5"]
    with bench.running("ingress"), bench.program(_peer(bench, port := free_ports(1)[0])):
        endpoints = {
            "ours": (bench.env["PENSTOCK_HTTP_URL"], bench.env["PENSTOCK_TOKEN"]),
            "peer": (f"http://127.0.0.1:{port}", ""),
        }
        by_form = {side: partial(_large, bench, file, expected, *endpoint) for side, endpoint in endpoints.items()}
        large = await _pairs(options, by_form)
        small = await _pairs(options, {side: partial(_small, bench, *endpoint) for side, endpoint in endpoints.items()})
        direct = {side: partial(_direct, bench, file, expected, side) for side in ("obstore", "rclone")}
        best = min([(await direct[side](), side) for side in direct])[1]
        beside = await _pairs(options, {"ours": by_form["ours"], best: direct[best]})
    size = options.large / 1e6
    figures = [
        Figure.median(
            f"upload of {options.large / (1 << 30):g} GiB by form, over UploadFile + boto3",
            "x the rate",
            ratios(large["peer"], large["ours"]),
            at_least=2.0,
            beside={
                "MB/s, large": {side: median([size / one for one in runs]) for side, runs in large.items()},
            },
        ),
        Figure.median(
            f"the same, over the best client of the store itself ({best})",
            "x the rate",
            ratios(beside[best], beside["ours"]),
            at_least=0.8,
            beside={
                "MB/s, beside it": {side: median([size / one for one in runs]) for side, runs in beside.items()},
            },
        ),
        Figure.median(
            "500 uploads of 64 KiB by form, over UploadFile + boto3",
            "x the rate",
            ratios(small["peer"], small["ours"]),
            at_least=2.0,
            beside={"uploads/s, small": {side: median([500 / one for one in runs]) for side, runs in small.items()}},
        ),
    ]
    return Result(figures, runs={"large": large, "small": small, "direct": beside})


def _write(file: Path, size: int) -> None:
    with file.open("wb") as out:
        out.writelines(bodies.large(file.name, size))


def _peer(bench: Benchmark, port: int) -> Program:
    forms = Installer(bench.stack.state_dir, print).wheel(PEERS_FORMS)
    return Program(
        name="peer-upload",
        command=(sys.executable, "-m", "uvicorn", "peer_upload:app", "--port", str(port), "--log-level", "warning"),
        env={
            **base_env(),
            "PYTHONPATH": f"{Path(__file__).parent}:{forms}",
            "PEER_BUCKET": bodies.BUCKET,
            **{name: value for name, value in bench.env.items() if name.startswith("PENSTOCK_S3_")},
        },
        check=partial(ready.web, port, "/docs"),
    )


async def _pairs(options: Options, sides: dict[str, Any]) -> dict[str, list[float]]:
    """Upload by one side and by the other, in turns."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    first, second = sides
    for side, counts in alternating_runs(options.pairs, (first, second)):
        taken = await sides[side]()
        if counts:
            seconds[side].append(taken)
    return seconds


async def _large(bench: Benchmark, file: Path, md5: str, address: str, token: str) -> float:
    """Send a file by curl; the object must be the file."""
    command = ("curl", "-sS", "-H", f"Authorization: Bearer {token}", "-F", f"file=@{file}", f"{address}/uploadfile/")
    started = time.perf_counter()
    answer = await _output(command)
    seconds = time.perf_counter() - started
    await _check(bench, json.loads(answer)["key"], md5)
    return seconds


async def _small(bench: Benchmark, address: str, token: str) -> float:
    """Send many files, a few at a time; every object must be its file."""
    names = bodies.names("small", 500)
    keys: dict[str, str] = {}
    async with _session(token) as session:

        async def send(name: str) -> None:
            form = aiohttp.FormData()
            form.add_field("file", bodies.body(name, SMALL), filename=name.rpartition("/")[2])
            async with session.post(f"{address}/uploadfile/", data=form) as answer:
                keys[name] = (await answer.json())["key"]

        started = time.perf_counter()
        await in_flight(names, send, WIDTH)
        seconds = time.perf_counter() - started
    store = bench.bucket()

    async def same(name: str) -> None:
        got = bytes(await (await obstore.get_async(store, keys[name])).bytes_async())
        assert got == bodies.body(name, SMALL), name

    await in_flight(names, same)
    return seconds


@asynccontextmanager
async def _session(token: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {token}"} if token else {}) as session:
        yield session


async def _direct(bench: Benchmark, file: Path, md5: str, side: str) -> float:
    """Send the same file by a client of the store itself."""
    started, key = time.perf_counter(), f"direct/{side}.bin"
    if side == "obstore":
        await obstore.put_async(bench.bucket(), key, file)
    else:
        await _output(("rclone", "copyto", str(file), f"bench:{bodies.BUCKET}/{key}"), **_remote(bench))
    seconds = time.perf_counter() - started
    await _check(bench, key, md5)
    return seconds


def _remote(bench: Benchmark) -> dict[str, str]:
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Minio",
        "ENDPOINT": bench.env["PENSTOCK_S3_ENDPOINT"],
        "ACCESS_KEY_ID": bench.env["PENSTOCK_S3_ACCESS_KEY"],
        "SECRET_ACCESS_KEY": bench.env["PENSTOCK_S3_SECRET_KEY"],
    }
    return {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in remote.items()}


async def _check(bench: Benchmark, key: str, md5: str) -> None:
    """Read an object back, compare it, and remove it: the disk is not what is measured."""
    store = bench.bucket()
    stream = (await obstore.get_async(store, key)).stream(min_chunk_size=bodies.CHUNK)
    chunks = [bytes(chunk) async for chunk in stream]
    assert await asyncio.to_thread(lambda: bodies.digests_of(chunks)["md5"]) == md5, key
    await obstore.delete_async(store, key)


async def _output(command: Sequence[str], **env: str) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, env={**base_env(), **env}, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, command
    return output
