"""Declared names that equal names in our SQL or in Postgres either work everywhere or are refused."""

import ast
import asyncio
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from services.etl.adapters import exports, loads, schema, seeding, statements, tables
from services.etl.core import checking, datasets, delimited, exporting, frames, layouts, values
from services.etl.core.datasets import Datasets, InvalidDatasets
from services.ingress.adapters import rejects, selects
from services.ingress.adapters import tables as ingress_tables
from services.ingress.core.datasets import parse_dataset
from services.ingress.core.filters import RowQuery
from shared.errors import Rejected
from shared.events import EtlCompleted, EtlLoaded, EtlRequested, ObjectChanged
from shared.storage import ObjectRef
from shared.work import Lease
from tests.fakes.etl import BUCKET, etl_on

pytestmark = pytest.mark.integration

MODULES = (statements, schema, tables, exports, loads, seeding, exporting, selects, rejects, ingress_tables)
FRAMES = (checking, datasets, delimited, frames, layouts, values)
MIGRATIONS = Path(datasets.__file__).parents[1] / "migrations"
SYSTEM = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}
SHARDS = 6
MILLISECONDS = 946_684_800_000
VERSIONS = (
    (f"a,{MILLISECONDS},one", f"b,{MILLISECONDS},two", "a,0,doubled", "c,x,", "d,0,three"),
    (f"a,{MILLISECONDS},one", "b,86400000,changed", "e,0,new"),
)

SECTION = """
[{table}]
bucket = "src-data"
prefix = "{prefix}"
key = "{key}"
images = ["png"]
born = "{born}"
[{table}.columns]
{born} = {{ type = "milliseconds" }}
{text} = {{ type = "text", required = true }}
"""


def strings_in(path: Path) -> Iterator[str]:
    """Yield the strings of a module except docstrings; they include all SQL."""
    tree = ast.parse(path.read_text("utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z_][a-z0-9_]*", text.lower()))


def names_of_ours() -> set[str]:
    """Return each word of the SQL of etl and of the ingress's table queries, and each frame column."""
    found = {word for module in MODULES for text in strings_in(Path(module.__file__)) for word in words(text)}
    found |= {word for path in MIGRATIONS.glob("*.sql") for word in words(path.read_text("utf-8"))}
    return found | {
        text for module in FRAMES for text in strings_in(Path(module.__file__)) if re.fullmatch("[a-z][a-z0-9_]*", text)
    }


def invalid_name_reason(name: str) -> str:
    """Return why a name cannot be a column; empty if it can."""
    text = SECTION.format(table="t", prefix="", key="some_key", born="some_birth", text=name)
    try:
        Datasets.parse(text)
    except InvalidDatasets as error:
        return str(error)
    return ""


async def keywords(env, *, reserved: bool = False) -> set[str]:
    """Return the keywords of Postgres; `reserved`: only those that are not allowed as names everywhere."""
    connection = await asyncpg.connect(env["PENSTOCK_POSTGRES_DSN"])
    try:
        rows = await connection.fetch("select word from pg_get_keywords() where not $1 or catcode <> 'U'", reserved)
        return {row["word"] for row in rows}
    finally:
        await connection.close()


def triples(names: list[str]) -> list[tuple[str, str, str]]:
    """Use each name once as key, birth and text column."""
    return list(zip(names, [*names[1:], *names[:1]], [*names[2:], *names[:2]], strict=True))


def body(key: str, born: str, text: str, *rows: str) -> bytes:
    return "\n".join((f"{key},{born},{text}", *rows, "")).encode()


def test_only_built_in_and_system_column_names_are_refused(servers):
    found = names_of_ours() | asyncio.run(keywords(servers.env)) | SYSTEM
    refused = {name: reason for name in found if (reason := invalid_name_reason(name))}
    assert all(reason.startswith("datasets: [t]") and name in reason for name, reason in refused.items())
    plain = {name for name in refused if re.fullmatch("[a-z][a-z0-9_]{0,40}", name)}
    images = {"img_path", "img_type", "img_width", "img_height", "img_sha256"}
    assert plain == SYSTEM | images | {"source", "source_id", "line", "loaded_at"}


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_every_name_works_as_key_column_and_birth(servers, shard):
    found = names_of_ours() | await keywords(servers.env, reserved=True)
    assert {"id", "position", "user", "first", "kept", "mine", "made", "all"} <= found
    names = sorted(name for name in found if not invalid_name_reason(name))
    await load_and_read(servers, triples(names)[shard::SHARDS], f"n{shard}")


async def test_nonreserved_postgres_keywords_work_as_names(servers):
    found = await keywords(servers.env) - names_of_ours() - await keywords(servers.env, reserved=True)
    assert len(found) > 100
    await load_and_read(servers, triples(sorted(found)), "w", is_brief=True)


async def load_and_read(servers, every, run, *, is_brief=False):
    """Load a table for each triple of names, replace its file, and run all queries of a table."""
    declared = {f"{run}_{number}": names for number, names in enumerate(every)}
    sections = [
        SECTION.format(table=table, prefix=f"{table}/", key=key, born=born, text=text)
        for table, (key, born, text) in declared.items()
    ]
    async with etl_on(servers.env, columns="".join(sections)) as etl:
        try:
            assert etl.datasets.refused == {}
            for rows in VERSIONS[is_brief:]:
                files = {f"{table}/all.csv": body(*names, *rows) for table, names in declared.items()}
                await etl.deliver(*[await stored(etl, key, text) for key, text in files.items()])
                assert etl.wired.recorder.dead_letter_codes() == []
            for table, names in declared.items():
                await read(etl, table, names)
                if not is_brief:
                    await ask(etl, table, names)
        finally:
            await drop(etl, [*declared, etl.name])


async def stored(etl, key, body):
    info = await etl.store.put(ObjectRef(BUCKET, key), body)
    etl.revision += 1
    return ObjectChanged(
        change="stored",
        bucket=BUCKET,
        key=key,
        etag=info.etag,
        size=info.size,
        revision=etl.revision,
        correlation_id=f"{etl.revision:032x}",
    )


async def read(etl, table, names):
    dataset = etl.datasets.by_name[table]
    rows = await etl.pool.fetch(exporting.table_query(dataset))
    assert [tuple(row.values())[:4] for row in rows] == [
        ("a", MILLISECONDS, "one", ""),
        ("b", 86_400_000, "changed", ""),
        ("e", 0, "new", ""),
    ]
    assert list(rows[0].keys())[:3] == list(names)


async def ask(etl, table, names):
    """Run all queries of the ingress on a table."""
    row = await etl.pool.fetchrow("select definition from api.datasets where name = $1", table)
    seen = parse_dataset(row["definition"], names)
    query = RowQuery(dataset=table, contains="e", min_age=0, max_age=200, is_image_exists=False, limit=1, after="")
    for statement in (
        selects.rows_as_json(seen, query, "b"),
        selects.rows_as_cells(seen, query, "b", is_escaped=True),
        selects.rows_as_cells(seen, query, "b", is_escaped=False),
        selects.rows_for_page(seen, query),
        selects.last_key_of(seen, query),
        selects.age_spans(seen, query),
    ):
        assert await etl.pool.fetch(statement.text, *statement.arguments), statement.text


async def drop(etl, tables):
    for table in tables:
        await etl.pool.execute(f'drop view if exists api."{table}"; drop table if exists etl."{table}"')
    for table in ("sources", "exports", "loads"):
        await etl.pool.execute(f"delete from etl.{table} where dataset = any($1)", tables)  # noqa: S608 - names of ours
    await etl.pool.execute("delete from etl.datasets where name = any($1)", tables)


async def test_table_names_may_equal_words_of_statements_or_postgres_keywords(servers):
    ours = ("age", "cell", "mine", "stored", "staging_users", "id", "position")
    names = [*sorted(await keywords(servers.env))[::7], *ours]
    names = [name for name in names if is_table(name)]
    sections = [
        SECTION.format(table=name, prefix=f"tables/{name}/", key="k", born="b", text="t").replace("born =", "#")
        for name in names
    ]
    async with etl_on(servers.env, columns="".join(sections)) as etl:
        try:
            files = {f"tables/{name}/1.csv": body("k", "b", "t", "a,0,one") for name in names}
            await etl.deliver(*[await stored(etl, key, text) for key, text in files.items()])
            assert etl.wired.recorder.dead_letter_codes() == []
            for name in names:
                assert len(await etl.pool.fetch(f'select * from api."{name}"')) == 1  # noqa: S608 - names of ours
        finally:
            await drop(etl, names)


def is_table(name: str) -> bool:
    try:
        Datasets.parse(SECTION.format(table=name, prefix="", key="k", born="b", text="t"))
    except InvalidDatasets:
        return False
    return True


async def test_dataset_rejected_by_postgres_is_refused_alone_and_shown(servers):
    """The table name equals the index name of another table, which no word list contains."""
    async with etl_on(servers.env) as etl:
        other = f"{etl.name}_by_source"
        section = SECTION.format(table=other, prefix=f"{other}/", key="k", born="b", text="t")
        datasets = Datasets.parse(section + section.replace(other, f"{etl.name}_2"))
        await schema.ensure_tables(etl.pool, datasets)
        assert list(datasets.by_name) == [f"{etl.name}_2"]
        assert other in datasets.refused[other]
        row = await etl.pool.fetchrow("select state, error from api.datasets where name = $1", other)
        assert tuple(row) == ("refused", datasets.refused[other])
        await schema.ensure_tables(etl.pool, Datasets.parse(section.replace(other, f"{etl.name}_2")))
        assert await etl.pool.fetchrow("select 1 from api.datasets where name = $1", other) is None
        await drop(etl, [f"{etl.name}_2"])


async def test_invalid_dataset_does_not_affect_others_and_is_shown_until_valid(servers):
    async with etl_on(servers.env, columns='[bad_one]\nbucket = "src-data"\nprefix = "bad/"\nkey = "ctid"\n') as etl:
        await etl.deliver(await etl.put("1.csv", b"first_name,last_name,birthts\nAda,Byron,0\n"))
        assert list(await etl.rows()) == ["1"]
        row = await etl.pool.fetchrow("select state, error from api.datasets where name = 'bad_one'")
        assert row["state"] == "refused"
        assert "[bad_one]" in row["error"]
        datasets = Datasets.parse(SECTION.format(table="bad_one", prefix="bad/", key="k", born="b", text="t"))
        await schema.ensure_tables(etl.pool, datasets)
        row = await etl.pool.fetchrow("select state, error from api.datasets where name = 'bad_one'")
        assert tuple(row) == ("behind", "")
        await drop(etl, ["bad_one"])


async def state_of(etl):
    row = await etl.pool.fetchrow("select state, failed from api.datasets where name = $1", etl.name)
    return tuple(row)


async def refuse_bob(etl):
    """Make Postgres reject a row for an unexpected reason."""
    check = f'alter table etl."{etl.name}" add constraint nobody_foresaw check (first_name <> $$Bob$$)'
    await etl.pool.execute(check)


async def fail_to_load(etl):
    """Run a full load, as a worker does, with a chunk that fails."""
    await etl.deliver(EtlRequested(load_id=uuid.uuid4().hex, dataset=etl.name))
    (item,) = await etl.asked.claim("test")
    loading = asyncio.ensure_future(etl.full.load(Lease(item)))
    while not (pieces := await etl.pieces.claim("test")):
        await asyncio.wait((loading,), timeout=0.01)
    for piece in pieces:
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await etl.large.load(Lease(piece))
        await etl.large.on_failure(piece, caught.value)
        await etl.pieces.fail(piece, "no", retry_in=None)
    with pytest.raises(Rejected, match="1 of 1 chunks failed") as caught:
        await loading
    await etl.full.on_failure(item, caught.value)
    await etl.asked.fail(item, "no", retry_in=None)


async def test_failed_load_is_shown_until_it_succeeds(servers):
    async with etl_on(servers.env) as etl:
        await etl.deliver(await etl.put("1.csv", b"first_name,last_name,birthts\nAda,Byron,0\n"))
        await refuse_bob(etl)
        await etl.deliver(await etl.put("2.csv", b"first_name,last_name,birthts\nBob,Byron,0\n"))
        assert etl.wired.recorder.dead_letter_codes() == ["CheckViolationError"]
        assert await state_of(etl) == ("failed", 1)
        assert await etl.rejects() == [("2.csv", 0, "LOAD_FAILED")]
        shown = "select etag, failure from api.sources where failure <> '' and dataset = $1"
        row = await etl.pool.fetchrow(shown, etl.name)
        assert row["etag"] is None
        assert "CheckViolationError" in row["failure"]
        await fail_to_load(etl)
        assert etl.wired.recorder.events(EtlLoaded)[-1].error
        done = etl.wired.recorder.events(EtlCompleted)[-1]
        assert (done.state, done.changed) == ("failed", 0)
        assert "1 of 1 chunks failed" in done.error
        await etl.pool.execute(f'alter table etl."{etl.name}" drop constraint nobody_foresaw')
        await etl.load()
        assert sorted(await etl.rows()) == ["1", "2"]
        assert await etl.rejects() == []
        assert (await state_of(etl))[1] == 0
        assert etl.wired.recorder.events(EtlCompleted)[-1].state == "succeeded"


async def test_removed_file_clears_its_failure(servers):
    async with etl_on(servers.env) as etl:
        await refuse_bob(etl)
        await etl.deliver(await etl.put("2.csv", b"first_name,last_name,birthts\nBob,Byron,0\n"))
        assert await state_of(etl) == ("failed", 1)
        await etl.remove("2.csv")
        await etl.load()
        assert (await state_of(etl))[1] == 0
