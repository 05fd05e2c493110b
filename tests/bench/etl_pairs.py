"""Users as pairs of a file and an image, tens of thousands at once, and then one of them changed."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import obstore
import sample_users
from benchmark import IN_FLIGHT, Benchmark, in_flight
from figures import Figure, alternating_runs, median, medians, ratios
from metrics import CpuMeter
from sample_users import BUCKET
from scenario import CORES, Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED

LOADED = "select count(*) = $1 from etl.sources where etag is not null"
CHANGES = 20
KNOWN = 100_000


async def measure(bench: Benchmark, options: Options) -> Result:
    """A backlog of pairs; full loads of the same; changes on an idle system."""
    objects = sample_users.pairs(options.users)
    facts = await _facts(bench, objects)
    users: dict[str, list[float]] = {"ours": [], "get": []}
    cpu: list[dict[str, float]] = []
    for side, counts in alternating_runs(options.pairs, ("ours", "get")):
        if side == "ours":
            seconds, used = await _ours(bench, facts, objects)
        else:
            seconds, used = await _get(bench, [name for name, _ in objects]), {}
        if counts:
            users[side].append(options.users / seconds)
            cpu += [used] if used else []
    first, second = await _loads(bench, options, len(objects))
    seconds_to_see = await _changes(bench, options.users)
    figures = [
        Figure.median(
            f"{options.users:,} users, a file and an image each, {CORES} processes, over two GETs a user by obstore",
            "x the rate",
            ratios(users["ours"], users["get"]),
            at_least=0.5,
            beside={
                "users/s": {side: median(runs) for side, runs in users.items()},
                "CPU us a user": medians(cpu),
            },
        ),
        Figure.median(
            "second full load, nothing changed, over the first",
            "x the rate",
            ratios(first, second),
            at_least=20.0,
            beside={"seconds": {"first": median(first), "second": median(second)}},
        ),
        Figure.median(f"one changed user among {KNOWN:,}, from the PUT to the view", "s", seconds_to_see, at_most=2.0),
    ]
    return Result(figures, runs={"users_per_second": users, "loads": [first, second], "changes": seconds_to_see})


async def _facts(bench: Benchmark, objects: Sequence[tuple[str, bytes]]) -> list[Any]:
    """Store objects and let ingest tell them; return the records it wrote."""
    before = await bench.ends(OBJECTS_CHANGED)
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"):
        await sample_users.put_all(bench, objects)
        await bench.wait_for_records(before, len(objects))
        await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE)
    return await bench.records(before)


async def _ours(
    bench: Benchmark, facts: Sequence[Any], objects: Sequence[tuple[str, bytes]]
) -> tuple[float, dict[str, float]]:
    with sample_users.etl(bench, CORES) as etl:
        await sample_users.wait_until_idle(bench)
        await sample_users.truncate(bench)
        cpu = CpuMeter({"etl": etl, **{one.name: [one] for one in bench.servers("minio", "kafka", "postgres")}})
        cpu.start()
        started = await sample_users.publish_backlog(bench, etl, facts)
        seconds = await sample_users.until(bench, LOADED, len(objects)) - started
        used = cpu.read(per=len(objects) // 2)
        await _check(bench, len(objects) // 2)
        await sample_users.wait_until_idle(bench)
    return seconds, used


async def _check(bench: Benchmark, users: int) -> None:
    """Every user is there with the right row and an image."""
    connection = await asyncpg.connect(bench.env["PENSTOCK_POSTGRES_DSN"])
    rows = await connection.fetch("select * from api.users")
    await connection.close()
    found = {row["user_id"]: row for row in rows}
    assert len(found) == len(rows) == users, f"{len(rows)} rows of {users} users"
    for number in range(users):
        row = found[str(20_000_000 + number)]
        expected = sample_users.row(number).split(",")
        assert [row["first_name"], row["last_name"], str(row["birthts"])] == expected, dict(row)
        assert (row["img_width"], row["img_height"]) == (8 + number % 56, 8 + number // 56 % 56), dict(row)


async def _get(bench: Benchmark, names: Sequence[str]) -> float:
    """The same objects by the fastest client there is, as many in flight as etl has in all."""
    store = bench.bucket(BUCKET)

    async def get(name: str) -> None:
        await (await obstore.get_async(store, name)).bytes_async()

    started = time.perf_counter()
    await in_flight(names, get, CORES * IN_FLIGHT)
    return time.perf_counter() - started


async def _loads(bench: Benchmark, options: Options, objects: int) -> tuple[list[float], list[float]]:
    """Return the seconds of full loads of what nobody knows, and of the next one each."""
    first, second = [], []
    for _ in range(min(options.pairs, 3)):
        with sample_users.etl(bench, CORES):
            await sample_users.wait_until_idle(bench)
            await sample_users.truncate(bench)
            for seconds, changed in ((first, objects), (second, 0)):
                result = await sample_users.load(bench)
                assert (result["listed"], result["changed"]) == (objects, changed), result
                seconds.append(result["seconds"])
            await _check(bench, objects // 2)
            await sample_users.wait_until_idle(bench)
    return first, second


async def _changes(bench: Benchmark, users: int) -> list[float]:
    """Change one user after the other on an idle system that knows many; return the seconds until each is seen."""
    taken = []
    numbers = range(KNOWN - users)
    rest = "".join(f"{30_000_000 + number},{sample_users.row(number)}\n" for number in numbers).encode()
    store = bench.bucket(BUCKET)
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"), sample_users.etl(bench, CORES):
        await obstore.put_async(store, "rest.csv", sample_users.HEADER + rest)
        await sample_users.until(bench, "select count(*) = $1 from api.users", max(KNOWN, users))
        for change in range(CHANGES):
            await sample_users.wait_until_idle(bench)
            await asyncio.sleep(random.uniform(0.02, 0.12))
            user, name = str(20_000_000 + random.randrange(users)), f"Changed{change}"
            body = f"first_name, last_name, birthts\n{name}, Again, 0\n".encode()
            started = time.perf_counter()
            await obstore.put_async(store, f"{user}.csv", body)
            seen = await sample_users.until(
                bench, "select first_name = $2 from api.users where user_id = $1", user, name
            )
            taken.append(seen - started)
    return taken
