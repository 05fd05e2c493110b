"""The figures as a page."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

INTRODUCTION = """\
# Benchmarks

Made by `make bench`; do not edit. Both sides of a ratio run in one run on one machine, in turns (A B, then B A),
against the same servers and the same objects, and every digest of both sides is compared with hashlib's. The figure is
the median of the ratios of the pairs; the range holds all of them. One turn of each side before them is not counted: it
warms Kafka's compiler and everybody's caches. Absolute numbers are this machine's; take the ratios. Every single run is
in [benchmarks.json](benchmarks.json).
"""

HEADS = {
    "backlog": """\
Peer: Celery over Redis, prefork, `acks_late`, results kept (tests/bench/peer_celery.py). Workers of both sides are
started, ready and frozen while the backlog is laid out; the clock runs from their release to the last result. Both
sides survive a kill of any process; ours alone writes each result to PostgreSQL and publishes it on a topic.""",
    "live": """\
Both sides store through the same client and the same two notification lanes; the denominator has nobody behind them,
and all of the machine for itself.""",
    "latency": """\
From the start of a PUT to its fact in a consumer's hands, less the median PUT of the same body where no rule
listens.""",
    "large": """\
From a fact on `objects.changed.v1` to `objects.hashed.v1`, leased work included, against rclone from start to end.""",
    "ingest-only": """\
Copies of real notifications, both lanes, judged against an empty memory: each object is news once, a duplicate once.
The clock runs until all of them are read, merged, published and committed.""",
    "resident": """\
Resident memory as Linux counts it (VmRSS; VmHWM for the peak). The load: small objects, the largest that are read
whole, and one large object, at once.""",
    "uploads": """\
Peer: FastAPI's `UploadFile` and boto3's `upload_fileobj` (tests/bench/peer_upload.py), the same bucket under the same
rules; large files sent by curl, small ones 16 at a time; every object is read back and compared.""",
    "downloads": """\
curl from the ingress against curl from the store by a presigned address; requests for digests are timed from when they
were due, so a late answer delays nobody else's clock.""",
    "etl-million": """\
A whole etl process from one fact on `objects.changed.v1` to the rows in its table, files and checks included, against
loaders from GET to commit (tests/bench/peer_etl.py): the csv module and psycopg's executemany, and csv.DictReader with
a committed upsert a row as the users ETL had it, measured on 20,000 rows. The tables of both sides are compared cell by
cell. Memory is the peak of the process until its files are written too.""",
    "etl-pairs": """\
The backlog is laid out while etl's processes are frozen; the clock runs from their release to the last row, every one
of which is checked. Two GETs a user are what the same objects cost obstore, the fastest client there is, with as many
in flight, which then does nothing with them.""",
    "etl-read": "The client lets the bytes go as they come; one answer before them is read whole and compared.",
    "limits": "What the machine gives at best; the fractions above are of these.",
}


def render(found: Mapping[str, Any]) -> str:
    """Return the page of what is in benchmarks.json."""
    scenarios = found["scenarios"]
    limits = scenarios.get("limits", {}).get("limits", {})
    return (
        "\n".join([INTRODUCTION, *_machine(found["machine"]), *_summary(scenarios, limits), *_sections(scenarios)])
        + "\n"
    )


def _machine(machine: Mapping[str, str]) -> Iterator[str]:
    yield from ("## The machine", "")
    yield from (f"- {what}: {said}" for what, said in machine.items())
    yield ""


def _summary(scenarios: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Figures", "")
    yield "| what | goal | measured | range | of the limit | |"
    yield "|---|---|---|---|---|---|"
    for scenario in scenarios.values():
        for one in scenario["figures"]:
            low, high = _number(one["low"]), _number(one["high"])
            spread = f"{low} to {high}" if low != high else ""
            status = "met" if one["met"] else "**MISSED**"
            measured = f"{_number(one['value'])} {one['unit']}"
            yield f"| {one['name']} | {_goal(one)} | {measured} | {spread} | {_fraction(one, limits)} | {status} |"
    yield ""


def _goal(figure: Mapping[str, Any]) -> str:
    bounds = (("at least", figure["at_least"]), ("at most", figure["at_most"]))
    return " and ".join(f"{word} {_number(bound)}" for word, bound in bounds if bound is not None)


def _fraction(figure: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    limit = limits.get(figure["limit"])
    return f"{figure['rate'] / limit['rate']:.0%} of {limit['what']}" if limit else ""


def _sections(scenarios: Mapping[str, Any]) -> Iterator[str]:
    for name, scenario in scenarios.items():
        yield from (f"## {name}", "", HEADS[name], "")
        when = f"Measured {scenario['measured']} at {scenario['commit']}"
        yield f"{when}, {scenario['pairs']} runs, load before it {scenario['load']}."
        yield ""
        yield from _rows(scenario)


def _rows(scenario: Mapping[str, Any]) -> Iterator[str]:
    beside = {what: numbers for one in scenario["figures"] for what, numbers in one["beside"].items()}
    rows = [f"- {what}: {_said(numbers)}" for what, numbers in beside.items()]
    rows += [f"- {one['what']}: {_number(one['rate'])} {one['unit']}" for one in scenario["limits"].values()]
    yield from (*rows, "") if rows else ()


def _said(numbers: Any) -> str:
    if isinstance(numbers, Mapping):
        return "; ".join(f"{name} {_said(value)}" for name, value in numbers.items())
    if isinstance(numbers, Iterable):
        return ", ".join(map(_number, numbers))
    return _number(numbers)


def _number(value: float) -> str:
    return f"{value:,.3f}".rstrip("0").rstrip(".")
