"""The heavy test of the digest API, on servers of its own: `python tests/bench/heavy.py`.

Many files of random sizes, whose digests are known, go through /uploadfile/ and are asked for until they are told. A
digest that is wrong or never comes makes the exit code 1.

--files 2000      how many
--clients 32      how many at a time
--seed 1          which sizes
"""

import argparse
import asyncio
import hashlib
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmark import Benchmark, in_flight, open_benchmark

LARGEST = 8 << 20
PAUSE_SECONDS = 0.1
TIMEOUT_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class File:
    """A file that follows from its number and the seed."""

    name: str
    size: int

    @property
    def body(self) -> bytes:
        return random.Random(self.name).randbytes(self.size)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How long a file took, in seconds, and what is wrong with what was told of it."""

    size: int
    upload: float
    success: float
    wrong: str = ""


def main() -> int:
    """Run the test; the exit code is 1 when any digest was wrong."""
    given = _arguments()
    return uvloop.run(_run(files_of(given.seed, given.files), given.clients))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def files_of(seed: int, count: int) -> list[File]:
    """Return files from one byte to `LARGEST`, as many small ones as large ones at any scale."""
    chance = random.Random(seed)
    return [
        File(f"{seed}-{number}.bin", round(math.exp(chance.uniform(0, math.log(LARGEST))))) for number in range(count)
    ]


async def _run(files: Sequence[File], clients: int) -> int:
    async with open_benchmark() as bench:
        with bench.running("ingest"), bench.running("hasher"), bench.running("ingress"):
            outcomes, seconds = await _send_all(bench, files, clients)
    _print(outcomes, seconds)
    return 1 if any(one.wrong for one in outcomes) or len(outcomes) != len(files) else 0


async def _send_all(bench: Benchmark, files: Sequence[File], clients: int) -> tuple[list[Outcome], float]:
    outcomes: list[Outcome] = []
    headers = {"authorization": f"Bearer {bench.env['PENSTOCK_TOKEN']}"}
    limits = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(bench.env["PENSTOCK_HTTP_URL"], headers=headers, connector=limits) as session:

        async def send(file: File) -> None:
            outcomes.append(await _send(session, file))

        started = time.perf_counter()
        await in_flight(files, send, clients)
        return outcomes, time.perf_counter() - started


async def _send(session: aiohttp.ClientSession, file: File) -> Outcome:
    body = await asyncio.to_thread(lambda: file.body)
    md5 = (await asyncio.to_thread(hashlib.md5, body, usedforsecurity=False)).hexdigest()
    form = aiohttp.FormData()
    form.add_field("file", body, filename=file.name)
    started = time.perf_counter()
    async with session.post("/uploadfile/", data=form) as answer:
        made = await answer.json()
    uploaded = time.perf_counter() - started
    wrong = await _wrong(session, made["id"], md5) if made["success"] else f"{file.name}: {made['detail']}"
    return Outcome(file.size, uploaded, time.perf_counter() - started, wrong)


async def _wrong(session: aiohttp.ClientSession, number: str, md5: str) -> str:
    """Wait for the digest, and say what is wrong with it."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        async with session.get("/gethash/", params={"file_id": number}) as answer:
            body = await answer.json()
        if body["status"] not in {"PENDING", "STARTED"}:
            return "" if (body["status"], body["hash"]) == ("SUCCESS", md5) else f"{number}: {body}, and not {md5}"
        if time.monotonic() > deadline:
            return f"{number}: still {body['status']} after {TIMEOUT_SECONDS:.0f} s"
        await asyncio.sleep(PAUSE_SECONDS)


def _print(outcomes: Sequence[Outcome], seconds: float) -> None:
    size, wrong = sum(one.size for one in outcomes), [one.wrong for one in outcomes if one.wrong]
    print(f"{len(outcomes)} files, {size / 1e6:.0f} MB, {seconds:.1f} s")
    print(f"throughput           {len(outcomes) / seconds:8.1f} files/s {size / seconds / 1e6:8.1f} MB/s")
    for title, times in (
        ("upload", [one.upload for one in outcomes]),
        ("upload to SUCCESS", [one.success for one in outcomes]),
    ):
        print(f"{title:<20} p50 {_at(times, 50):.3f} s   p95 {_at(times, 95):.3f} s   p99 {_at(times, 99):.3f} s")
    print(f"wrong                {len(wrong)}")
    for one in wrong[:10]:
        print(f"  {one}")


def _at(times: Sequence[float], percent: int) -> float:
    """Return the nearest rank."""
    return sorted(times)[max(0, math.ceil(len(times) * percent / 100) - 1)]


if __name__ == "__main__":
    sys.exit(main())
