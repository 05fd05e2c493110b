"""Property: after any sequence of changes, events and crashes, the table equals the bucket."""

import asyncio
import random
import uuid
from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.core.datasets import Datasets
from services.etl.workers import full_loads
from shared.postgres import open_pool
from tests.support import uploads
from tests.support.etl import SECTION
from tests.support.etl_in_memory import BUCKET, Crash, Etl
from tests.support.uploads import bad_row, image, many_rows, no_image, no_rows, one_row

pytestmark = pytest.mark.integration

EXAMPLES = 250
USERS = ("ada", "bob", "eve")
ROWS = [("Ada", "Lovelace", 0), ("Zoë", "O'Brien", -86_400_000), ("=1+1", "Ng", 978_307_200_000)]


@dataclass(frozen=True)
class Put:
    upload: uploads.Upload


@dataclass(frozen=True)
class Remove:
    name: str


@dataclass(frozen=True)
class Deliver:
    """Deliver past events, given as fractions of the history, in this order and with repeats; `crash`: where."""

    shares: tuple[float, ...]
    crash: str = ""


@dataclass(frozen=True)
class Race:
    """A change is written by another process between this process's fetch and write."""

    share: float
    change: Put | Remove


@dataclass(frozen=True)
class Load:
    crash: str = ""


users = st.sampled_from(USERS)
rows = st.sampled_from(ROWS)
some_rows = st.dictionaries(users, rows, min_size=0, max_size=3)
bad_lines = st.lists(st.sampled_from(["x,Ada,Lovelace,never", "y,Ada", ",Ada,Lovelace,0"]), max_size=3)
files = st.one_of(
    st.builds(one_row, users, rows),
    st.builds(bad_row, users),
    st.builds(many_rows, st.sampled_from(["many", "more", "ada"]), some_rows, bad_lines),
    st.builds(no_rows, st.sampled_from(["ada.csv", "many.csv"]), st.sampled_from([b"", b"a,b\n1,2\n"])),
)
endings = st.sampled_from(["png", "jpg", "GIF"])
images = st.one_of(
    st.builds(
        image, users, ending=endings, kind=st.sampled_from(["png", "jpeg", "gif", "webp"]), seed=st.integers(0, 2)
    ),
    st.builds(no_image, users, ending=endings),
)
names = st.one_of(st.builds("{}.{}".format, users, st.sampled_from(["csv", "png", "jpg", "GIF"])), st.just("many.csv"))
changes = st.one_of(st.builds(Put, files), st.builds(Put, images), st.builds(Remove, names))
shares = st.floats(0, 1, exclude_max=True)
crashes = st.sampled_from(["", "", "before", "after"])
steps = st.lists(
    st.one_of(
        changes,
        changes,
        st.builds(Deliver, st.lists(shares, min_size=1, max_size=5).map(tuple), crashes),
        st.builds(Race, shares, changes),
        st.builds(Load, crashes),
    ),
    min_size=1,
    max_size=16,
)


class Database:
    """One connection pool, dataset and event loop for all examples."""

    def __init__(self, dsn, folder):
        self.runner = asyncio.Runner()
        self.name = f"p{uuid.uuid4().hex[:10]}"
        self._dsn = SecretStr(dsn)
        text = SECTION.format(name=self.name, prefix=f"{self.name}/", output=self.name)
        self.datasets = Datasets.parse(text, str(folder))
        self._open = self._opened()

    async def _opened(self):
        await ensure_schema(self._dsn)
        async with open_pool(self._dsn, service="property") as pool:
            await ensure_tables(pool, self.datasets)
            yield pool

    def __enter__(self):
        self.pool = self.runner.run(anext(self._open))
        return self

    def __exit__(self, *error):
        self.runner.run(self._open.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def database(stack, tmp_path_factory):
    with Database(stack.env["PENSTOCK_POSTGRES_DSN"], tmp_path_factory.mktemp("etl")) as database:
        yield database


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(full_loads, "POLL_SECONDS", 0.002)


FIRST, SECOND = image("ada"), image("ada", ending="jpg", kind="jpeg")
ADA = one_row("ada", ROWS[0])


@example(  # the same bytes again, which no event told of: the latest counts, not the one with another etag
    steps=[Put(ADA), Put(FIRST), Put(SECOND), Load(), Put(FIRST)], ends_with_load=True, order=random.Random(0)
)
@example(  # gone and back between a look and its write
    steps=[Put(ADA), Race(0.0, Remove("ada.csv")), Put(ADA)], ends_with_load=False, order=random.Random(0)
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps, ends_with_load=st.booleans(), order=st.randoms(use_true_random=False))
def test_any_interleaving_ends_with_table_equal_to_bucket(database, steps, ends_with_load, order):
    database.runner.run(live(database, steps, ends_with_load=ends_with_load, order=order))


async def live(database, steps, *, ends_with_load, order):
    etl = Etl(database.pool, database.datasets.by_name[database.name])
    await etl.clear()
    for number, step in enumerate(steps):
        await witnessed(etl, step, number)
    if ends_with_load:
        await etl.load("last")
    else:
        await deliver_the_rest(etl, order)
    await etl.work_on()
    await judge(etl, published=not ends_with_load)


async def witnessed(etl, step, number):
    """Take a step; assert that each visible change marks the export as changed."""
    before, seen = await changed(etl), await table(etl)
    try:
        await take(etl, step, number)
    except Crash:
        note(f"crashed in {step}")
    finally:
        etl.tables.crash = ""
        etl.store.meanwhile.clear()
    if await table(etl) != seen:
        assert await changed(etl) > before, step


async def take(etl, step, number):
    match step:
        case Put(upload):
            await etl.put(upload)
        case Remove(name):
            await etl.remove(name)
        case Deliver(shares, crash) if etl.history:
            etl.tables.crash = crash
            await etl.deliver([int(share * len(etl.history)) for share in shares])
            await etl.work_on()
        case Race(share, change) if etl.history:
            etl.store.meanwhile.append(lambda: overtake(etl, change))
            await etl.deliver([int(share * len(etl.history))])
            await etl.work_on()
        case Load(crash):
            etl.tables.crash = crash
            await etl.load(f"{number}")


async def overtake(etl, change):
    event = await (etl.put(change.upload) if isinstance(change, Put) else etl.remove(change.name))
    await etl.deliver([event])
    await etl.work_on()


async def deliver_the_rest(etl, order):
    left = list(etl.undelivered)
    order.shuffle(left)
    while left:
        batch = [left.pop() for _ in range(min(len(left), order.randrange(1, 4)))]
        await etl.deliver(batch)


async def table(etl):
    found = await etl.pool.fetch(f'SELECT {", ".join(uploads.COLUMNS)} FROM api."{etl.dataset.name}"')  # noqa: S608
    assert len({row["user_id"] for row in found}) == len(found)
    return {row["user_id"]: tuple(row)[1:] for row in found}


async def changed(etl):
    return await etl.pool.fetchval("SELECT changed FROM etl.exports WHERE dataset = $1", etl.dataset.name)


async def judge(etl, *, published):
    stored = etl.stored()
    assert await table(etl) == uploads.expected(BUCKET, stored)
    assert await stored_images(etl) == uploads.images(stored)
    assert await rejected(etl) == uploads.rejected(stored)
    if published:
        judge_facts(etl, stored)


async def stored_images(etl):
    question = """
        SELECT key, content_type, width, height FROM etl.images JOIN etl.sources ON id = source_id
        WHERE images.dataset = $1
    """
    return {row["key"]: tuple(row)[1:] for row in await etl.pool.fetch(question, etl.dataset.name)}


async def rejected(etl):
    found = defaultdict(list)
    question = "SELECT key, row FROM api.rejects WHERE dataset = $1 ORDER BY key, row"
    for row in await etl.pool.fetch(question, etl.dataset.name):
        found[row["key"]].append(row["row"])
    return found


def judge_facts(etl, stored):
    """Assert that the latest fact of each present or removed object is true."""
    etags, said = etl.etags(), defaultdict(set)
    for fact in etl.loaded():
        said[fact.key, fact.etag].add((fact.rows, fact.rejected))
    for key, _, upload in stored:
        assert (len(upload.rows), len(upload.rejected)) in said[key, etags[key]], key
    for key in {key for key, etag in said if etag} - set(etags):
        assert (key, None) in said, f"{key} is gone, and nobody said so"
