"""Downloads through the ingress against a GET of the store itself, and what asking for digests costs."""

import asyncio
import gc
import random
import statistics
import time
from typing import Any

import aiohttp
import bodies
import boto3
import obstore
from benchmark import Benchmark
from figures import Figure, alternating_runs, median, ratios, rounded
from scenario import Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED

NAME = "large.bin"
RATE = 500
ASKING_SECONDS = 10


async def measure(bench: Benchmark, options: Options) -> Result:
    """Read one large file by either way; then upload and ask, on an idle system and at a rate."""
    await obstore.put_async(bench.bucket(), f"files/{NAME}", bodies.large(NAME, options.large))
    with (
        bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"),
        bench.running("hasher"),
        bench.running("ingress", PENSTOCK_RATE_LIMIT="100000"),
    ):
        await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE)
        await bench.wait_for_no_lag("hasher", OBJECTS_CHANGED)
        seconds = await _downloads(bench, options)
        async with aiohttp.ClientSession(
            base_url=bench.env["PENSTOCK_HTTP_URL"],
            headers={"authorization": f"Bearer {bench.env['PENSTOCK_TOKEN']}"},
            connector=aiohttp.TCPConnector(limit=64),
        ) as session:
            known, until_success = await _until_success(session, options.samples)
            latencies = await _ask_at_a_rate(session, known)
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    figures = [
        Figure.median(
            f"download of {options.large / (1 << 30):g} GiB, over a GET of the store itself",
            "x the rate",
            ratios(seconds["direct"], seconds["ours"]),
            at_least=0.8,
            beside={
                "MB/s": {side: median([options.large / 1e6 / one for one in runs]) for side, runs in seconds.items()}
            },
        ),
        Figure(
            "upload of 4 KiB to /gethash SUCCESS, idle, p50",
            "ms",
            rounded(statistics.median(until_success)),
            rounded(min(until_success)),
            rounded(max(until_success)),
            at_most=40.0,
        ),
        Figure(
            f"/gethash at {RATE} requests/s, p99",
            "ms",
            rounded(cuts[98]),
            rounded(min(latencies)),
            rounded(max(latencies)),
            at_most=10.0,
            beside={"ms (p50, p95, p99)": [rounded(cuts[49]), rounded(cuts[94]), rounded(cuts[98])]},
        ),
    ]
    return Result(figures, runs={"downloads": seconds, "until_success": [rounded(one) for one in until_success]})


async def _downloads(bench: Benchmark, options: Options) -> dict[str, list[float]]:
    signer: Any = boto3.client(
        "s3",
        endpoint_url=bench.env["PENSTOCK_S3_ENDPOINT"],
        aws_access_key_id=bench.env["PENSTOCK_S3_ACCESS_KEY"],
        aws_secret_access_key=bench.env["PENSTOCK_S3_SECRET_KEY"],
        region_name="us-east-1",
    )
    direct = signer.generate_presigned_url("get_object", {"Bucket": bodies.BUCKET, "Key": f"files/{NAME}"})
    signer.close()
    ours = (
        "-H",
        f"Authorization: Bearer {bench.env['PENSTOCK_TOKEN']}",
        f"{bench.env['PENSTOCK_HTTP_URL']}/files/{NAME}",
    )
    expected = bodies.digests_of(bodies.large(NAME, options.large))["md5"]
    words = {"ours": ours, "direct": (direct,)}
    for one in words.values():
        assert (await _curl(f"curl -sS {' '.join(map(_quoted, one))} | md5sum")).split()[0].decode() == expected
    seconds: dict[str, list[float]] = {side: [] for side in words}
    for side, counts in alternating_runs(options.pairs, ("ours", "direct")):
        started = time.perf_counter()
        await _curl(f"curl -sSf -o /dev/null {' '.join(map(_quoted, words[side]))}")
        if counts:
            seconds[side].append(time.perf_counter() - started)
    return seconds


def _quoted(word: str) -> str:
    return f"'{word}'"


async def _curl(line: str) -> bytes:
    process = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, line
    return output


async def _until_success(session: aiohttp.ClientSession, samples: int) -> tuple[list[str], list[float]]:
    """Return the ids of what was uploaded, and the milliseconds from each upload's start to its digest."""
    ids, taken = [], []
    for number, name in enumerate(bodies.names("asked", samples + 20)):
        body = bodies.body(name, bodies.SMALL)
        await asyncio.sleep(random.uniform(0.02, 0.12))
        form = aiohttp.FormData()
        form.add_field("file", body, filename="a.bin")
        started = time.perf_counter()
        async with session.post("/uploadfile/", data=form) as answer:
            ids.append((await answer.json())["id"])
        while (result := await _ask(session, ids[-1]))["status"] != "SUCCESS":  # noqa: ASYNC110 - a client knows no better
            await asyncio.sleep(0.001)
        if number >= 20:  # before, everything warms up
            taken.append((time.perf_counter() - started) * 1e3)
        assert result["hash"] == bodies.digests_of([body])["md5"]
    return ids, taken


async def _ask(session: aiohttp.ClientSession, file_id: str) -> Any:
    async with session.get("/gethash/", params={"file_id": file_id}) as answer:
        return await answer.json()


async def _ask_at_a_rate(session: aiohttp.ClientSession, ids: list[str]) -> list[float]:
    """Send at a steady rate, whether answers come or not; time from when each was due."""
    taken: list[float] = []
    begin = time.perf_counter() + 0.1

    async def ask(due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        started = min(due, time.perf_counter())  # a sleep may end a millisecond early
        assert (await _ask(session, random.choice(ids)))["status"] == "SUCCESS"
        taken.append((time.perf_counter() - started) * 1e3)

    gc.disable()  # the clock is in this process: a collection among all these tasks would stop it
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(RATE * ASKING_SECONDS):
                group.create_task(ask(begin + number / RATE))
    finally:
        gc.enable()
    return taken
