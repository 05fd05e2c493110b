"""A million users read through the ingress, as each of its formats."""

import json
import time
from typing import Any

import aiohttp
import obstore
import sample_users
from benchmark import Benchmark
from figures import Figure, median
from metrics import peak, rss
from sample_users import BUCKET
from scenario import Options, Result

LOADED = "select rows = $2 from etl.sources where key = $1"
KEY = "million.csv"
FORMATS = ("json", "csv", "parquet")
GROWTH_MIB = 100.0
"""How much more memory streams of any length may take than there was before them."""


async def measure(bench: Benchmark, options: Options) -> Result:
    """Load once; then read everything, one format after the other."""
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"), sample_users.etl(bench):
        await obstore.put_async(bench.bucket(BUCKET), KEY, sample_users.large_csv(options.rows))
        await sample_users.until(bench, LOADED, KEY, options.rows)
        await sample_users.wait_until_idle(bench)
    rates: dict[str, list[float]] = {name: [] for name in FORMATS}
    with bench.running("ingress", PENSTOCK_RATE_LIMIT="100000") as (ingress,):
        headers = {"authorization": f"Bearer {bench.env['PENSTOCK_TOKEN']}"}
        timeout = aiohttp.ClientTimeout(total=sample_users.TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(bench.env["PENSTOCK_HTTP_URL"], headers=headers, timeout=timeout) as session:
            fresh, peaks = rss(ingress), {}
            await _check(session, options.rows)
            for name in FORMATS:
                for number in range(options.pairs + 1):
                    seconds = await _read(session, name)
                    if number:  # the first warms up
                        rates[name].append(options.rows / seconds)
                peaks[name] = peak(ingress)
    most = max(peaks["json"], peaks["csv"])
    figures = [
        Figure.median(
            f"GET /data of {options.rows:,} users through the ingress",
            "rows/s",
            rates["json"],
            at_least=50_000.0,
            beside={
                "rows/s": {name: median(runs) for name, runs in rates.items()},
                "MiB": {"before": fresh, **{f"peak after {name}": value for name, value in peaks.items()}},
            },
        ),
        Figure.median("memory of ingress, more than before them", "MiB", [most - fresh], at_most=GROWTH_MIB),
    ]
    return Result(figures, runs={"rows_per_second": rates, "peak_mib": peaks})


async def _read(session: aiohttp.ClientSession, name: str) -> float:
    """Read a whole answer and let it go as it comes; return the seconds."""
    started = time.perf_counter()
    async with session.get("/data", params={"format": name}) as answer:
        assert answer.status == 200, await answer.text()
        async for _ in answer.content.iter_chunked(1 << 20):
            pass
    return time.perf_counter() - started


async def _check(session: aiohttp.ClientSession, rows: int) -> None:
    """All of it is there, and right, once."""
    async with session.get("/data") as answer:
        data: dict[str, Any] = json.loads(await answer.read())
    assert len(data) == rows, f"{len(data)} of {rows}"
    for number in range(0, rows, max(1, rows // 1000)):
        found = data[str(10_000_000 + number)]
        cells = f"{found['first_name']},{found['last_name']},{found['birthts']}"
        assert cells == sample_users.row(number), found
