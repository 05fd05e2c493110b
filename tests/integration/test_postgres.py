"""The pool and the migrations on a real Postgres."""

# ruff: noqa: S608, ASYNC110 - schema names are made here; pg_stat_activity can only be polled

import asyncio
import os
import sys
import uuid
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.errors import Kind, PenstockError, kind_of
from shared.outages import retry_outages
from shared.postgres import MigrationChanged, migrate, open_pool

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
MIGRATE = """
import asyncio, sys
from pydantic import SecretStr
from shared.postgres import migrate
asyncio.run(migrate(SecretStr(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""


@pytest.fixture
def dsn(servers):
    return SecretStr(servers.env["PENSTOCK_POSTGRES_DSN"])


@pytest.fixture
async def pool(dsn):
    async with open_pool(dsn, service="test") as pool:
        yield pool


@pytest.fixture
def schema():
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def folder(tmp_path, monkeypatch, schema):
    """A folder of migrations, importable under the schema's name."""
    folder = tmp_path / schema
    folder.mkdir()
    (folder / "0001.first.sql").write_text(f"create table {schema}.things (n integer);")
    (folder / "0002.second.sql").write_text(
        f"insert into {schema}.things values (1); insert into {schema}.things values (2);"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return folder


async def start_migrate(dsn, schema, folder):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", MIGRATE, dsn.get_secret_value(), schema, schema),
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder.parent}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_ten_processes_at_once_migrate_once(dsn, pool, schema, folder):
    processes = [await start_migrate(dsn, schema, folder) for _ in range(10)]
    said = [(await process.communicate())[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 10, said
    assert await pool.fetchval(f"select array_agg(n order by n) from {schema}.things") == [1, 2]
    assert await pool.fetchval(f"select count(*) from {schema}.migrations") == 2
    assert sum(text.count("postgres.migrated") for text in said) == 2


async def test_killed_migration_leaves_nothing_and_releases_its_lock(dsn, pool, schema, folder):
    slow = folder / "0003.slow.sql"
    slow.write_text("select pg_sleep(600);")
    process = await start_migrate(dsn, schema, folder)
    sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep(600)%'"
    async with asyncio.timeout(20):
        while not await pool.fetchval(sleeping):
            await asyncio.sleep(0.02)
    process.kill()
    await process.wait()
    slow.unlink()
    assert await pool.fetchval("select to_regclass($1)", f"{schema}.things") is None
    async with asyncio.timeout(10):
        await migrate(dsn, schema, schema)
    assert await pool.fetchval(f"select count(*) from {schema}.migrations") == 2


async def test_a_changed_migration_is_refused_and_a_new_one_applied(dsn, pool, schema, folder):
    await migrate(dsn, schema, schema)
    (folder / "0003.third.sql").write_text(f"insert into {schema}.things values (3)")
    await migrate(dsn, schema, schema)
    assert await pool.fetchval(f"select max(n) from {schema}.things") == 3
    (folder / "0001.first.sql").write_text(f"create table {schema}.things (n bigint);")
    with pytest.raises(MigrationChanged, match=r"0001\.first\.sql .* was changed after it was applied"):
        await migrate(dsn, schema, schema)


async def test_a_broken_migration_changes_nothing_and_is_not_waited_for(dsn, pool, schema, folder):
    (folder / "0003.broken.sql").write_text("selec")
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await migrate(dsn, schema, schema)
    assert await pool.fetchval("select to_regclass($1)", f"{schema}.things") is None


async def test_a_migration_that_lacks_a_table_is_not_waited_for(dsn, schema, folder):
    (folder / "0003.broken.sql").write_text("select * from nowhere.nothing")
    with pytest.raises(PenstockError, match=r"migration 0003\.broken\.sql .* fails: UndefinedTableError"):
        await migrate(dsn, schema, schema)


async def test_a_folder_without_migrations_is_a_mistake(dsn, schema, folder):
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(PenstockError, match="holds no migrations"):
        await migrate(dsn, schema, schema)


async def test_jsonb_is_python_values(pool):
    assert await pool.fetchval("select $1::jsonb", {"a": [1, None, "é"]}) == {"a": [1, None, "é"]}


async def test_connections_say_whose_they_are(pool):
    assert await pool.fetchval("select current_setting('application_name')") == "penstock-test"


async def test_a_service_that_starts_before_postgres_waits_and_says_so_once(servers, dsn):
    async def use():
        async with open_pool(dsn, service="test") as pool:
            return await pool.fetchval("select 1")

    with capture_logs() as logs:  # also while the server starts: the service may be the first to know
        await asyncio.to_thread(servers.stop, "postgres")
        try:
            using = asyncio.create_task(use())
            done, _ = await asyncio.wait([using], timeout=1.5)  # several tries
            assert not done
        finally:
            await asyncio.to_thread(servers.start, "postgres")
        assert await using == 1
    said = [line["event"] for line in logs if line["event"].startswith("postgres.")]
    assert said == ["postgres.away", "postgres.back"]


async def test_a_restart_is_an_outage_wherever_it_strikes(servers, pool):
    struck = []

    async def in_a_transaction():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select pg_sleep(60)")

    async def between_statements():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select 1")
            await restarted.wait()
            await connection.execute("select 1")

    async def between_statements_without_a_transaction():
        async with pool.acquire() as connection:
            await restarted.wait()
            await connection.execute("select 1")

    async def strike(action):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which ones is what this test asks
            await action()
        struck.append(kind_of(caught.value))

    restarted = asyncio.Event()
    actions = (in_a_transaction, between_statements, between_statements_without_a_transaction)
    tasks = [asyncio.create_task(strike(action)) for action in actions]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(servers.restart, "postgres")
    restarted.set()
    await asyncio.gather(*tasks)
    assert struck == [Kind.OUTAGE] * 3
    assert await retry_outages(lambda: pool.fetchval("select 1")) == 1


async def test_an_unknown_host_is_an_outage():
    opening = open_pool(SecretStr("postgresql://penstock@no-such-host.invalid/penstock"), service="test")
    with capture_logs() as logs, pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5), opening:
            pass
    assert [line["event"] for line in logs if line["event"].startswith("postgres.")] == ["postgres.away"]
