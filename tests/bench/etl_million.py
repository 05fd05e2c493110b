"""One CSV of a million users into a table: a whole etl process against loaders as most would write them."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import obstore
import sample_users
from benchmark import Benchmark
from figures import Figure, alternating_runs, median, ratios
from metrics import peak, rss
from sample_users import BUCKET
from scenario import Options, Result

from deploy.native.process import Process
from deploy.native.servers import base_env
from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED

KEY = "million.csv"
SEEDS_ROWS = 20_000
"""That the seed's way is measured on; at its rate the whole file would take an hour."""
PEERS_TABLE = """
    create schema if not exists peer;
    create table peer.users (user_id text primary key, first_name text, last_name text, birthts bigint)
"""
LOADED = "select rows = $2 from etl.sources where key = $1"


async def measure(bench: Benchmark, options: Options) -> Result:
    """From a ready process and one fact to the rows in the table; the peers from GET to commit."""
    fact = await _store(bench, KEY, options.rows)
    await sample_users.execute(bench, PEERS_TABLE)
    rates: dict[str, list[float]] = {"ours": [], "batches": [], "upsert": []}
    memory: list[float] = []
    limit = min(SEEDS_ROWS, options.rows)
    for side, counts in alternating_runs(options.pairs, ("ours", "batches")):
        if side == "ours":
            seconds, used = await _ours(bench, fact, KEY, options.rows)
            memory.append(used)
        else:
            seconds = await _peer(bench, side, options.rows)
            assert await sample_users.fingerprint(bench, "peer.users") == await sample_users.fingerprint(
                bench, "api.users"
            )
        if counts:
            rates[side].append(options.rows / seconds)
        if counts and side == "batches":
            rates["upsert"].append(limit / await _peer(bench, "upsert", limit))
    most, largest = await _most(bench, options.rows_most)
    return Result(_figures(options, rates, memory, most, largest), runs={"rows_per_second": rates, "peak_mib": memory})


def _figures(
    options: Options, rates: dict[str, list[float]], memory: list[float], most: float, largest: float
) -> list[Figure]:
    beside = {"rows/s": {side: median(runs) for side, runs in rates.items()}}
    return [
        Figure.median(
            f"one CSV of {options.rows:,} users, over csv.DictReader and a committed upsert a row",
            "x the rate",
            ratios(rates["ours"], rates["upsert"]),
            at_least=50.0,
            beside=beside,
        ),
        Figure.median(
            "the same, over executemany of 10,000 rows at a time in one transaction",
            "x the rate",
            ratios(rates["ours"], rates["batches"]),
            at_least=1.5,
        ),
        Figure.median("memory of etl, peak of the same and of its files", "MiB", memory, at_most=400.0),
        Figure.median(f"one CSV of {options.rows_most:,} users", "rows/s", [options.rows_most / most]),
        Figure.median("memory of etl, peak of this one and of its files", "MiB", [largest], at_most=400.0),
    ]


async def _store(bench: Benchmark, key: str, rows: int) -> Any:
    """Store the file and let ingest tell it; return its fact."""
    before = await bench.ends(OBJECTS_CHANGED)
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"):
        await obstore.put_async(bench.bucket(BUCKET), key, sample_users.large_csv(rows))
        await bench.wait_for_records(before, 1)
        await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE)
    (fact,) = await bench.records(before)
    return fact


async def _ours(bench: Benchmark, fact: Any, key: str, rows: int) -> tuple[float, float]:
    """Return the seconds until the rows are in the table, and the peak of memory until they are in the files too."""
    with sample_users.etl(bench) as etl:
        await sample_users.wait_until_idle(bench)
        await sample_users.truncate(bench)
        started = await sample_users.publish_backlog(bench, etl, [fact])
        seconds = await sample_users.until(bench, LOADED, key, rows) - started
        await sample_users.wait_until_idle(bench)
        used = await _checked(bench, etl[0], rows, seconds)
    return seconds, used


async def _checked(bench: Benchmark, etl: Process, rows: int, seconds: float) -> float:
    """Return the peak of memory of a process that loaded all these rows."""
    used = peak(etl)
    print(f"{'':<7}{rows:,} rows in {seconds:.1f} s, peak {used} MiB, now {rss(etl)} MiB")
    count, _ = await sample_users.fingerprint(bench, "api.users")
    assert count == rows, f"{count} rows of {rows}"
    return used


async def _most(bench: Benchmark, rows: int) -> tuple[float, float]:
    """The same for many more rows, once, from the end of the PUT."""
    await sample_users.execute(bench, "truncate peer.users")
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"), sample_users.etl(bench) as etl:
        await sample_users.wait_until_idle(bench)
        await obstore.delete_async(bench.bucket(BUCKET), KEY)
        await obstore.put_async(bench.bucket(BUCKET), "most.csv", sample_users.large_csv(rows))
        started = time.perf_counter()
        seconds = await sample_users.until(bench, LOADED, "most.csv", rows) - started
        await sample_users.wait_until_idle(bench)
        used = await _checked(bench, etl[0], rows, seconds)
    return seconds, used


async def _peer(bench: Benchmark, way: str, rows: int) -> float:
    await sample_users.execute(bench, "truncate peer.users")
    names = ("S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "POSTGRES_DSN")
    known = {f"PENSTOCK_{name}": bench.env[f"PENSTOCK_{name}"] for name in names}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("peer_etl.py")),
        way,
        str(rows),
        env={**base_env(), **known, "PEER_BUCKET": BUCKET, "PEER_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    result = json.loads(output)
    assert result["rows"] == rows, result
    return float(result["seconds"])
