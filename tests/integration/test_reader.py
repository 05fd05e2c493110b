"""The role for tools that read: what it may see, and what it may not."""

import asyncio
import uuid

import asyncpg
import pytest
from pydantic import SecretStr

from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.core.datasets import Datasets
from shared.postgres import open_pool
from shared.provision.reader import MAX_CONNECTIONS, READER, ensure_reader
from tests.support.topics import run

pytestmark = pytest.mark.integration

PASSWORD = SecretStr("reads'only")


@pytest.fixture(scope="module", autouse=True)
def _as_it_was(servers):
    yield
    own = (servers.env["PENSTOCK_POSTGRES_DSN"], servers.env["PENSTOCK_READER_PASSWORD"])
    run(ensure_reader(*map(SecretStr, own)))


@pytest.fixture
def dsn(servers) -> SecretStr:
    return SecretStr(servers.env["PENSTOCK_POSTGRES_DSN"])


@pytest.fixture
async def root(dsn):
    connection = await asyncpg.connect(dsn.get_secret_value())
    yield connection
    await connection.close()


@pytest.fixture
async def reader(dsn):
    await ensure_reader(dsn, PASSWORD)
    connection = await log_in(dsn, PASSWORD)
    yield connection
    await connection.close()


@pytest.fixture
async def dataset(dsn):
    """Give the name of a dataset whose table and view exist, and a way to declare it with other columns."""
    await ensure_schema(dsn)
    name = f"u{uuid.uuid4().hex[:10]}"

    async def declare(column: str) -> None:
        text = f'{name} = {{bucket = "src-data", prefix = "{name}/", key = "id", columns.{column}.type = "text"}}'
        async with open_pool(dsn, service="test") as pool:
            await ensure_tables(pool, Datasets.parse(text))

    await declare("first")
    return name, declare


async def log_in(dsn: SecretStr, password: SecretStr) -> asyncpg.Connection:
    return await asyncpg.connect(dsn.get_secret_value(), user=READER, password=password.get_secret_value())


async def test_it_reads_every_view_that_is_there_or_made_later_or_made_anew(reader, dataset):
    name, declare = dataset
    assert await reader.fetch(f'SELECT first FROM api."{name}"') == []  # noqa: S608 - a name of ours
    await declare("last")
    assert await reader.fetch(f'SELECT last FROM "{name}"') == []  # noqa: S608 - a name of ours
    views = await reader.fetch("SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'api'::regnamespace")
    assert {name, "datasets", "sources", "rejects", "loads"} <= {view["oid"] for view in views}
    for view in views:
        await reader.fetch(f"SELECT * FROM {view['oid']} LIMIT 1")  # noqa: S608 - a name of ours


async def test_it_writes_nothing_and_sees_no_table(reader, dataset):
    name, _ = dataset
    await reader.execute("SET default_transaction_read_only = off")
    for forbidden in (
        f'SELECT * FROM etl."{name}"',  # noqa: S608 - a name of ours
        "SELECT * FROM etl.sources",
        "DELETE FROM api.sources",
        "UPDATE api.sources SET reason = 'mine'",
        f'DROP VIEW api."{name}"',
        "CREATE VIEW api.mine AS SELECT 1",
        "CREATE TABLE public.mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "ALTER ROLE penstock_reader CONNECTION LIMIT -1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(forbidden)


async def test_its_sessions_only_read_and_end(reader):
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await reader.execute("CREATE SCHEMA mine")
    shown = {name: await reader.fetchval(f"SHOW {name}") for name in ("statement_timeout", "search_path")}
    assert shown == {"statement_timeout": "5min", "search_path": "api"}


async def test_it_takes_no_more_than_its_share_of_connections(reader, dsn):
    held = [reader]
    try:
        while len(held) < MAX_CONNECTIONS:
            held.append(await log_in(dsn, PASSWORD))
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await log_in(dsn, PASSWORD)
        assert await ensure_reader(dsn, PASSWORD) == []
    finally:
        await asyncio.gather(*(connection.close() for connection in held[1:]))


async def test_reader_is_created_once_under_concurrent_setups(dsn, root):
    await ensure_reader(dsn, PASSWORD)
    await asyncio.gather(*(ensure_reader(dsn, PASSWORD) for _ in range(5)))
    assert await ensure_reader(dsn, PASSWORD) == []
    await root.execute("REVOKE USAGE ON SCHEMA api FROM penstock_reader; ALTER ROLE penstock_reader CREATEROLE")
    await root.execute("ALTER ROLE penstock_reader CONNECTION LIMIT 3")
    assert await ensure_reader(dsn, PASSWORD) == [f"role {READER}: set", f"role {READER}: may read schema api"]
    assert not await root.fetchval("SELECT rolcreaterole FROM pg_roles WHERE rolname = $1", READER)
    assert await ensure_reader(dsn, PASSWORD) == []


async def test_a_changed_password_is_set_and_never_written_down(dsn, root, servers):
    await ensure_reader(dsn, PASSWORD)
    other = SecretStr(f"another-{uuid.uuid4().hex}")
    await root.execute("ALTER ROLE penstock SET log_statement = 'all'")
    try:
        assert await ensure_reader(dsn, other) == [f"role {READER}: password set"]
    finally:
        await root.execute("ALTER ROLE penstock RESET log_statement")
    await (await log_in(dsn, other)).close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await log_in(dsn, PASSWORD)
    logged = servers.logs("postgres")
    assert f"alter role {READER} password 'SCRAM-SHA-256$" in logged
    assert other.get_secret_value() not in logged
    assert await ensure_reader(dsn, PASSWORD) == [f"role {READER}: password set"]


async def test_login_without_a_password_is_refused(dsn):
    await ensure_reader(dsn, PASSWORD)
    (line,) = await ensure_reader(dsn, SecretStr(""))
    assert "login disabled" in line
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await log_in(dsn, PASSWORD)
    assert await ensure_reader(dsn, SecretStr("")) == []
    assert f"role {READER}: password set" in await ensure_reader(dsn, PASSWORD)


async def test_database_user_without_createrole_logs_one_line_and_does_not_fail(dsn, root):
    await root.execute("DROP ROLE IF EXISTS modest")
    await root.execute("CREATE ROLE modest LOGIN PASSWORD 'm'; GRANT ALL ON DATABASE penstock TO modest")
    address = dsn.get_secret_value().rpartition("@")[2]
    await ensure_reader(dsn, PASSWORD)
    await root.execute("ALTER ROLE penstock_reader CONNECTION LIMIT 3")
    try:
        (line,) = await ensure_reader(SecretStr(f"postgresql://modest:m@{address}"), PASSWORD)
    finally:
        await root.execute("REVOKE ALL ON DATABASE penstock FROM modest; DROP ROLE modest")
        await ensure_reader(dsn, PASSWORD)
    assert line.startswith(f"role {READER}: ")
    assert "may create roles" in line
