"""Users as pairs of a file and an image, tens of thousands at once, and then one of them changed."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import obstore
import people
from arena import IN_FLIGHT, Arena, in_flight
from figures import Figure, middle, middles, ratios, turns
from meters import CpuMeter
from people import BUCKET
from scenario import CORES, Options, Result

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED

LOADED = "select count(*) = $1 from etl.sources where etag is not null"
CHANGES = 20
KNOWN = 100_000


async def measure(arena: Arena, options: Options) -> Result:
    """A backlog of pairs; full loads of the same; changes on an idle system."""
    objects = people.pairs(options.users)
    facts = await _facts(arena, objects)
    users: dict[str, list[float]] = {"ours": [], "get": []}
    cpu: list[dict[str, float]] = []
    for side, counts in turns(options.pairs, ("ours", "get")):
        if side == "ours":
            seconds, used = await _ours(arena, facts, objects)
        else:
            seconds, used = await _get(arena, [name for name, _ in objects]), {}
        if counts:
            users[side].append(options.users / seconds)
            cpu += [used] if used else []
    first, second = await _loads(arena, options, len(objects))
    seconds_to_see = await _changes(arena, options.users)
    figures = [
        Figure.median(
            f"{options.users:,} users, a file and an image each, {CORES} processes, over two GETs a user by obstore",
            "x the rate",
            ratios(users["ours"], users["get"]),
            at_least=0.5,
            beside={
                "users/s": {side: middle(runs) for side, runs in users.items()},
                "CPU us a user": middles(cpu),
            },
        ),
        Figure.median(
            "second full load, nothing changed, over the first",
            "x the rate",
            ratios(first, second),
            at_least=20.0,
            beside={"seconds": {"first": middle(first), "second": middle(second)}},
        ),
        Figure.median(f"one changed user among {KNOWN:,}, from the PUT to the view", "s", seconds_to_see, at_most=2.0),
    ]
    return Result(figures, runs={"users_per_second": users, "loads": [first, second], "changes": seconds_to_see})


async def _facts(arena: Arena, objects: Sequence[tuple[str, bytes]]) -> list[Any]:
    """Store objects and let ingest tell them; return the records it wrote."""
    before = await arena.ends(OBJECTS_CHANGED)
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false"):
        await people.put_all(arena, objects)
        await arena.grown(before, len(objects))
        await arena.caught_up("ingest", MINIO_LIVE, MINIO_SAFE)
    return await arena.records(before)


async def _ours(
    arena: Arena, facts: Sequence[Any], objects: Sequence[tuple[str, bytes]]
) -> tuple[float, dict[str, float]]:
    with people.etl(arena, CORES) as etl:
        await people.settled(arena)
        await people.forget(arena)
        cpu = CpuMeter({"etl": etl, **{one.name: [one] for one in arena.servers("minio", "kafka", "postgres")}})
        cpu.start()
        started = await people.laid_out(arena, etl, facts)
        seconds = await people.until(arena, LOADED, len(objects)) - started
        used = cpu.read(per=len(objects) // 2)
        await _check(arena, len(objects) // 2)
        await people.settled(arena)
    return seconds, used


async def _check(arena: Arena, users: int) -> None:
    """Every user is there with the right row and an image."""
    connection = await asyncpg.connect(arena.env["PENSTOCK_POSTGRES_DSN"])
    rows = await connection.fetch("select * from api.users")
    await connection.close()
    found = {row["user_id"]: row for row in rows}
    assert len(found) == len(rows) == users, f"{len(rows)} rows of {users} users"
    for number in range(users):
        row = found[str(20_000_000 + number)]
        wanted = people.row(number).split(",")
        assert [row["first_name"], row["last_name"], str(row["birthts"])] == wanted, dict(row)
        assert (row["img_width"], row["img_height"]) == (8 + number % 56, 8 + number // 56 % 56), dict(row)


async def _get(arena: Arena, names: Sequence[str]) -> float:
    """The same objects by the fastest client there is, as many in flight as etl has in all."""
    store = arena.bucket(BUCKET)

    async def get(name: str) -> None:
        await (await obstore.get_async(store, name)).bytes_async()

    started = time.perf_counter()
    await in_flight(names, get, CORES * IN_FLIGHT)
    return time.perf_counter() - started


async def _loads(arena: Arena, options: Options, objects: int) -> tuple[list[float], list[float]]:
    """Return the seconds of full loads of what nobody knows, and of the next one each."""
    first, second = [], []
    for _ in range(min(options.pairs, 3)):
        with people.etl(arena, CORES):
            await people.settled(arena)
            await people.forget(arena)
            for seconds, changed in ((first, objects), (second, 0)):
                said = await people.load(arena)
                assert (said["listed"], said["changed"]) == (objects, changed), said
                seconds.append(said["seconds"])
            await _check(arena, objects // 2)
            await people.settled(arena)
    return first, second


async def _changes(arena: Arena, users: int) -> list[float]:
    """Change one user after the other on an idle system that knows many; return the seconds until each is seen."""
    taken = []
    numbers = range(KNOWN - users)
    rest = "".join(f"{30_000_000 + number},{people.row(number)}\n" for number in numbers).encode()
    store = arena.bucket(BUCKET)
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false"), people.etl(arena, CORES):
        await obstore.put_async(store, "rest.csv", people.HEADER + rest)
        await people.until(arena, "select count(*) = $1 from api.users", max(KNOWN, users))
        for change in range(CHANGES):
            await people.settled(arena)
            await asyncio.sleep(random.uniform(0.02, 0.12))
            user, name = str(20_000_000 + random.randrange(users)), f"Changed{change}"
            body = f"first_name, last_name, birthts\n{name}, Again, 0\n".encode()
            started = time.perf_counter()
            await obstore.put_async(store, f"{user}.csv", body)
            seen = await people.until(arena, "select first_name = $2 from api.users where user_id = $1", user, name)
            taken.append(seen - started)
    return taken
