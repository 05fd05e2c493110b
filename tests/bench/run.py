"""Measure Penstock beside its peers, on real servers: `python tests/bench/run.py`.

--only backlog,latency   only these scenarios; the others keep their place in the results
--pairs 2                fewer runs
--out /tmp/trial         benchmarks.json and benchmarks.md elsewhere than docs
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import backlog
import downloads
import etl_million
import etl_pairs
import etl_read
import ingest_only
import large
import latency
import live
import machine
import resident
import resource_limits
import table
import uploads
from benchmark import Benchmark, open_benchmark
from scenario import CORES, Options

from deploy.native.install import CHECKOUT

SCENARIOS = {
    "backlog": backlog,
    "live": live,
    "latency": latency,
    "large": large,
    "ingest-only": ingest_only,
    "resident": resident,
    "uploads": uploads,
    "downloads": downloads,
    "etl-million": etl_million,
    "etl-pairs": etl_pairs,
    "etl-read": etl_read,
    "limits": resource_limits,
}
FORMER_NAMES = {"alone": "ingest-only"}
"""Accepted by `--only`, and renamed in results that an older run wrote, for one version."""

USUAL = Options()


def main() -> int:
    """Run the scenarios; a figure that misses its goal is printed; the exit code stays 0."""
    given = _arguments()
    machine.require_programs()
    if machine.load() > CORES / 4:
        print(f"this machine is busy (load {machine.load()}); the figures will say so", file=sys.stderr)
    options = Options(
        given.pairs, given.objects, given.samples, given.large_mib << 20, given.users, given.rows, given.rows_most
    )
    uvloop.run(_measure(given.only, options, given.out))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_names, default=list(SCENARIOS), metavar=",".join(SCENARIOS))
    parser.add_argument("--pairs", type=int, default=USUAL.pairs)
    parser.add_argument("--objects", type=int, default=USUAL.objects, help="small objects a run")
    parser.add_argument("--samples", type=int, default=USUAL.samples, help="PUTs of the latency scenario")
    parser.add_argument("--large-mib", type=int, default=USUAL.large >> 20, help="size of the large object")
    parser.add_argument("--users", type=int, default=USUAL.users, help="users of etl, a file and an image each")
    parser.add_argument("--rows", type=int, default=USUAL.rows, help="rows of a file that etl loads")
    parser.add_argument("--rows-most", type=int, default=USUAL.rows_most, help="rows of the largest one")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    requested = [FORMER_NAMES.get(name, name) for name in text.split(",")]
    if strange := set(requested) - set(SCENARIOS):
        raise argparse.ArgumentTypeError(f"no scenario is called {', '.join(sorted(strange))}")
    return [name for name in SCENARIOS if name in requested]


async def _measure(names: Sequence[str], options: Options, out: Path) -> None:
    for name in names:
        before = {
            "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": machine.commit(),
            "pairs": options.pairs,
            "load": machine.load(),
        }
        async with open_benchmark() as bench:  # fresh servers: no scenario pays for another's objects
            result = (await SCENARIOS[name].measure(bench, options)).as_json()
            _print(result)
            _save(out, bench, name, before | result)


def _print(result: dict[str, Any]) -> None:
    for one in result["figures"]:
        status = "met" if one["met"] else "MISSED"
        spread = f"{one['low']} to {one['high']}"
        print(f"{status:<7}{one['name']}: {one['value']} {one['unit']} ({spread}) {one['beside'] or ''}")
    for one in result["limits"].values():
        print(f"{'':<7}{one['what']}: {one['rate']} {one['unit']}")


def _save(out: Path, bench: Benchmark, name: str, result: dict[str, Any]) -> None:
    """Put one scenario's result among the others."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "benchmarks.json"
    found = json.loads(file.read_text()) if file.exists() else {"scenarios": {}}
    earlier = {FORMER_NAMES.get(one, one): measured for one, measured in found["scenarios"].items()}
    merged = {**earlier, name: result}
    found = {
        "machine": machine.describe(bench.tools),
        "scenarios": {one: merged[one] for one in SCENARIOS if one in merged},
    }
    file.write_text(json.dumps(found, indent=1) + "\n")
    (out / "benchmarks.md").write_text(table.render(found))


if __name__ == "__main__":
    sys.exit(main())
