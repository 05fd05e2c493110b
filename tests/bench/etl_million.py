"""One CSV of a million users into a table: a whole etl process against loaders as most would write them."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import obstore
import people
from arena import Arena
from figures import Figure, middle, ratios, turns
from meters import peak, rss
from people import BUCKET
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


async def measure(arena: Arena, options: Options) -> Result:
    """From a ready process and one fact to the rows in the table; the peers from GET to commit."""
    fact = await _store(arena, KEY, options.rows)
    await people.execute(arena, PEERS_TABLE)
    rates: dict[str, list[float]] = {"ours": [], "batches": [], "upsert": []}
    memory: list[float] = []
    limit = min(SEEDS_ROWS, options.rows)
    for side, counts in turns(options.pairs, ("ours", "batches")):
        if side == "ours":
            seconds, used = await _ours(arena, fact, KEY, options.rows)
            memory.append(used)
        else:
            seconds = await _peer(arena, side, options.rows)
            assert await people.fingerprint(arena, "peer.users") == await people.fingerprint(arena, "api.users")
        if counts:
            rates[side].append(options.rows / seconds)
        if counts and side == "batches":
            rates["upsert"].append(limit / await _peer(arena, "upsert", limit))
    most, largest = await _most(arena, options.rows_most)
    return Result(_figures(options, rates, memory, most, largest), runs={"rows_per_second": rates, "peak_mib": memory})


def _figures(
    options: Options, rates: dict[str, list[float]], memory: list[float], most: float, largest: float
) -> list[Figure]:
    beside = {"rows/s": {side: middle(runs) for side, runs in rates.items()}}
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


async def _store(arena: Arena, key: str, rows: int) -> Any:
    """Store the file and let ingest tell it; return its fact."""
    before = await arena.ends(OBJECTS_CHANGED)
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false"):
        await obstore.put_async(arena.bucket(BUCKET), key, people.large_csv(rows))
        await arena.grown(before, 1)
        await arena.caught_up("ingest", MINIO_LIVE, MINIO_SAFE)
    (fact,) = await arena.records(before)
    return fact


async def _ours(arena: Arena, fact: Any, key: str, rows: int) -> tuple[float, float]:
    """Return the seconds until the rows are in the table, and the peak of memory until they are in the files too."""
    with people.etl(arena) as etl:
        await people.settled(arena)
        await people.forget(arena)
        started = await people.laid_out(arena, etl, [fact])
        seconds = await people.until(arena, LOADED, key, rows) - started
        await people.settled(arena)
        used = await _checked(arena, etl[0], rows, seconds)
    return seconds, used


async def _checked(arena: Arena, etl: Process, rows: int, seconds: float) -> float:
    """Return the peak of memory of a process that loaded all these rows."""
    used = peak(etl)
    print(f"{'':<7}{rows:,} rows in {seconds:.1f} s, peak {used} MiB, now {rss(etl)} MiB")
    count, _ = await people.fingerprint(arena, "api.users")
    assert count == rows, f"{count} rows of {rows}"
    return used


async def _most(arena: Arena, rows: int) -> tuple[float, float]:
    """The same for many more rows, once, from the end of the PUT."""
    await people.execute(arena, "truncate peer.users")
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false"), people.etl(arena) as etl:
        await people.settled(arena)
        await obstore.delete_async(arena.bucket(BUCKET), KEY)
        await obstore.put_async(arena.bucket(BUCKET), "most.csv", people.large_csv(rows))
        started = time.perf_counter()
        seconds = await people.until(arena, LOADED, "most.csv", rows) - started
        await people.settled(arena)
        used = await _checked(arena, etl[0], rows, seconds)
    return seconds, used


async def _peer(arena: Arena, way: str, rows: int) -> float:
    await people.execute(arena, "truncate peer.users")
    names = ("S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "POSTGRES_DSN")
    known = {f"PENSTOCK_{name}": arena.env[f"PENSTOCK_{name}"] for name in names}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("peer_etl.py")),
        way,
        str(rows),
        env={**base_env(), **known, "PEER_BUCKET": BUCKET, "PEER_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    said = json.loads(told)
    assert said["rows"] == rows, said
    return float(said["seconds"])
