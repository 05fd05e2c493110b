"""What the role for tools that read can take, lock, fill or learn, when its password is in the wrong hands."""

# ruff: noqa: S608 - names that Postgres quoted

import asyncio
import contextlib
import itertools
import json
import time
import uuid

import asyncpg
import pytest
from pydantic import SecretStr

from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.core.datasets import Datasets
from services.ingest.adapters.known_objects import KnownObjects
from services.ingest.adapters.readers import end_overdue
from services.ingress.adapters.fact_table import CHANNEL as FACTS
from services.ingress.adapters.feed import Feed
from services.ingress.adapters.permit_pools import limiter
from services.ingress.settings import IngressSettings
from shared.postgres import LOCK_SECONDS, open_pool
from shared.provision.limits import READER_LIMITS, Limits, ensure_limits
from shared.provision.rights import READER
from shared.wakeups import WAKE_SECONDS
from shared.work import WorkQueue
from shared.work.queue import CHANNEL as WORK
from tests.support import ingress
from tests.support.roles import dsn_as, logged_in

pytestmark = pytest.mark.integration

ENDED = (
    asyncpg.AdminShutdownError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
STORM = 3000

HARMLESS = (
    # of PL and indexes, triggers, types; what only the server may call, or the upgrade of a server
    r"handler$|^am|^RI_FKey_|_trigger(_column)?$|^unique_key_recheck$|^binary_upgrade_|^bernoulli$|^system$|^dsnowball_"
    r"|^plpgsql_|^pg_extension_config_dump$|^pg_nextoid$|^pg_stop_making_pinned_objects$"
    # of replication, for roles that may replicate alone
    r"|^pg_.*replication_slot|^pg_logical_slot_|^pg_replication_slot_"
    # tell of the server, of its clock or of chance; wait; or look at what the caller may see anyway
    r"|^pg_stat_|^pg_.*_size$|^pg_(current|last)_|^pg_is_|^pg_control_|^pg_get_|^pg_xact_|^txid_status$|^pg_sleep|^random$"
    r"|^setseed$|^clock_timestamp$|^timeofday$|^gen_random_uuid$|^current_query$|^pg_jit_available$|^currtid2$|^pg_lock_status$"
    r"|^pg_prepared_xact$|^pg_.*blocking_pids$|^pg_isolation_test_|^pg_partition_|^pg_.*collation.*_version$|^pg_available_"
    r"|^pg_notification_queue_usage$|^pg_.*old$|^pg_collation_actual_version$|^pg_input_|^random_normal$|^pg_log_standby_"
    # need rights on the object that they name, or end sessions of the role's own; settings are the session's own
    r"|^(nextval|currval|setval|lastval)$|^pg_sequence_|^(brin|gin)_|^pg_(cancel|terminate)_backend$|^set_config$"
    r"|^pg_import_system_collations$|^pg_advisory_unlock"
)


@pytest.fixture
async def reader(stack):
    async with logged_in(stack, "reader") as connection:
        await connection.execute("SET default_transaction_read_only = off; SET statement_timeout = 0")
        await connection.execute("SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0")
        yield connection


@pytest.fixture
async def pool(stack):
    """Give a pool of ingest, who ends overdue sessions."""
    async with open_pool(SecretStr(dsn_as(stack, "ingest")), service="test") as pool:
        yield pool


@pytest.fixture
async def short(stack):
    """Have sessions of the reader end after a second of whatever they do."""
    async with logged_in(stack, "operator") as operator:
        await ensure_limits(operator, Limits(transaction="1s", idle_in_transaction="1s", idle="1s"))
        yield
        await ensure_limits(operator, READER_LIMITS)


async def test_it_takes_no_advisory_lock_by_any_function(stack, reader, pool):
    async with logged_in(stack, "operator") as operator:
        found = await operator.fetch(
            "SELECT proname, proargtypes::regtype[]::text[] AS types, oid::regprocedure::text AS name FROM pg_proc"
            " WHERE proname ~ 'advisory' AND proname !~ 'unlock'"
        )
    assert len(found) >= 16
    for function in found:
        arguments = ", ".join(f"1::{kind}" for kind in function["types"])
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(f"SELECT {function['proname']}({arguments})")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute("SELECT pg_advisory_lock(hashtextextended('ingest.telling', 0))")
    async with asyncio.timeout(5), KnownObjects(pool).publishing(exclusive=True):
        pass


async def test_it_stores_creates_and_reads_nothing_but_views(reader):
    for statement in (
        "CREATE TABLE mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE TABLE api.mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE TEMPORARY VIEW mine AS SELECT 1",
        "SELECT 1 AS a INTO TEMPORARY mine",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION api.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE api.mine AS ENUM ('a')",
        "CREATE DOMAIN api.mine AS int",
        "CREATE SEQUENCE api.mine",
        "CREATE AGGREGATE api.mine(int) (SFUNC = int4pl, STYPE = int)",
        "CREATE PUBLICATION mine",
        "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE ROLE mine",
        "CREATE EXTENSION hstore",
        "DO $$ BEGIN PERFORM pg_sleep(60); END $$",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/mine'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT pg_stat_file('.')",
        "SELECT lo_create(0)",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT pg_logical_emit_message(false, 'a', repeat('x', 1000))",
        "SELECT pg_notify('penstock_work', 'digest')",
        "SELECT txid_current()",
        "SELECT pg_export_snapshot()",
        "SELECT query_to_xml('SELECT 1', true, true, '')",
        "SELECT * FROM ts_stat('SELECT to_tsvector(''a'')')",
        "SELECT pg_reload_conf()",
        "SELECT pg_switch_wal()",
        "SELECT pg_create_restore_point('a')",
        "SELECT pg_stat_reset()",
        "SELECT rolpassword FROM pg_authid",
        "SELECT * FROM pg_hba_file_rules",
        "SET temp_file_limit = '100GB'",
        "SET session_replication_role = replica",
        "SET log_statement = 'none'",
        "SET ROLE penstock_owner",
        f"ALTER ROLE {READER} CONNECTION LIMIT -1",
        "SELECT limits.end_overdue_readers()",
        "LOCK TABLE api.objects IN EXCLUSIVE MODE",
        "SELECT * FROM api.objects FOR UPDATE",
    ):
        try:
            async with reader.transaction():
                await reader.execute(statement)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.WrongObjectTypeError):
            continue
        except asyncpg.PostgresError as error:
            pytest.fail(f"{statement}: {error!r}")
        pytest.fail(f"{statement}: allowed")


async def test_it_reads_no_relation_but_views_and_what_everybody_knows(stack, reader):
    async with logged_in(stack, "operator") as operator:
        rows = await operator.fetch(
            "SELECT format('%I.%I', nspname, relname) AS name FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname NOT IN ('api', 'pg_catalog', 'information_schema') AND relkind IN ('r', 'v', 'm', 'p', 'S')"
        )
    assert {"ingress.tokens", "work.items", "ingest.objects"} <= {row["name"] for row in rows}
    for row in rows:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(f"SELECT * FROM {row['name']} LIMIT 1")


async def test_everybody_may_run_no_function_that_locks_stores_signals_or_reads_files(stack):
    async with logged_in(stack, "operator") as operator:
        found = await operator.fetch(
            "SELECT oid::regprocedure::text AS name FROM pg_proc WHERE provolatile = 'v' AND prokind <> 'a'"
            " AND pronamespace <> ALL ($1::regnamespace[]) AND proname !~ $2 AND EXISTS ("
            "   SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0"
            ") ORDER BY 1",
            ["api"],
            HARMLESS,
        )
    assert [row["name"] for row in found] == []


async def test_no_view_shows_a_secret(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        made = client.post("/tokens", json={"name": f"t{uuid.uuid4().hex}", "scopes": ["read"]}).json()
        client.post("/login/links")
        client.get("/whoami", headers={"authorization": f"Bearer {made['token']}"})
    statements = [f"SELECT hash FROM ingress.{table}" for table in ("tokens", "logins")]
    hashes = [row["hash"] for statement in statements for row in system.database.rows(statement)]
    secrets = [made["token"].rpartition("_")[2], *(one.hex() for one in hashes)]
    secrets += [value for name, value in system.stack.env.items() if "PASSWORD" in name or "SECRET" in name]
    async with logged_in(system.stack, "reader") as reader:
        views = await reader.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'api'::regnamespace"
        )
        for view in views:
            text = json.dumps([row["t"] for row in await reader.fetch(f"SELECT t::text FROM {view['name']} AS t")])
            assert [secret for secret in secrets if secret in text] == [], view["name"]
    client.close()


LIFTED = (
    "SET statement_timeout = 0; SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0;"
    "SET default_transaction_read_only = off"
)


async def lives(stack, *statements: str, again: bool = False) -> float:
    """Return the seconds after which the server ends a session that runs `statements`, the last one for ever."""
    async with logged_in(stack, "reader") as connection, logged_in(stack, "operator") as operator:
        started, pid = time.monotonic(), connection.get_server_pid()
        await connection.execute(LIFTED)
        with contextlib.suppress(*ENDED):
            for statement in statements:
                await connection.execute(statement)
            while again:
                await connection.execute(statements[-1])
                await asyncio.sleep(0.1)
        await seen(operator, f"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
        return time.monotonic() - started


@pytest.mark.usefixtures("short")
async def test_a_session_that_lifts_its_own_limits_is_ended_all_the_same(stack, system):
    system.serve("ingest")
    async with logged_in(stack, "operator") as bystander:
        await bystander.execute("BEGIN; SELECT 1")
        lived = await asyncio.gather(
            lives(stack, "SELECT pg_sleep(600)"),
            lives(stack, "SELECT count(*) FROM generate_series(1, 1e15::bigint)"),
            lives(stack, "BEGIN", "LOCK TABLE api.digests IN ACCESS SHARE MODE", "SELECT 1", again=True),
            lives(stack, "BEGIN", "DECLARE c CURSOR FOR SELECT generate_series(1, 1000000)", "FETCH c", again=True),
            lives(stack, "BEGIN; LOCK TABLE api.objects IN ACCESS SHARE MODE"),
            lives(stack),
        )
        assert await bystander.fetchval("SELECT 1") == 1
    assert min(lived) >= 0.9
    assert max(lived) < 30
    assert "readers.ended" in stack.logs("ingest")


async def test_sessions_within_their_limits_go_on(stack, pool, reader):
    await reader.execute("BEGIN; SELECT count(*) FROM api.objects")
    assert await end_overdue(pool) == 0
    assert await reader.fetchval("SELECT 1") == 1
    async with logged_in(stack, "operator") as operator:
        settings = await operator.fetchval("SELECT rolconfig FROM pg_roles WHERE rolname = $1", READER)
    assert {"idle_session_timeout=10min", "temp_file_limit=1GB", "statement_timeout=5min"} <= set(settings)


async def seen(connection, statement: str) -> None:
    """Wait until a question has an answer."""
    async with asyncio.timeout(20):
        while not await connection.fetchval(statement):  # noqa: ASYNC110 - a server's state can only be polled
            await asyncio.sleep(0.02)


async def test_a_reader_that_holds_a_view_stops_neither_its_other_readers_nor_its_change_for_long(stack, reader):
    name = f"u{uuid.uuid4().hex[:8]}"
    text = '[{}]\nbucket = "src-data"\nprefix = "{}/"\nkey = "id"\ncolumns.{}.type = "text"\n'
    first, last = (Datasets.parse(text.format(name, name, column)) for column in ("first", "last"))
    dsn = SecretStr(dsn_as(stack, "etl"))
    await ensure_schema(dsn)
    async with open_pool(dsn, service="test") as pool:
        await ensure_tables(pool, first)
        await reader.execute(f"BEGIN; SELECT * FROM api.{name}")
        changing = asyncio.create_task(ensure_tables(pool, last))
        async with logged_in(stack, "operator") as operator, logged_in(stack, "ingress") as other:
            await seen(operator, "SELECT true FROM pg_locks WHERE NOT granted LIMIT 1")
            started = time.monotonic()
            await other.execute(f"SELECT * FROM api.{name}")
            assert time.monotonic() - started < LOCK_SECONDS + 2
        assert not changing.done()
        await reader.execute("ROLLBACK")
        async with asyncio.timeout(30):
            assert await changing == [name]


class NoFacts:
    async def page(self, _after: int, _limit: int) -> list[object]:
        return []

    async def last(self) -> int:
        return 0

    async def highest(self) -> int:
        return 0


async def storm(reader, channel: str, payload: str) -> float:
    """Notify in many transactions; return how many seconds that took."""
    started = time.monotonic()
    for _ in range(STORM):
        await reader.execute(f"NOTIFY {channel}, '{payload}'")
    return time.monotonic() - started


async def test_a_storm_of_notifications_wakes_a_worker_at_a_bounded_rate(stack, reader):
    woken = itertools.count()
    async with open_pool(SecretStr(dsn_as(stack, "hasher")), service="test") as pool:
        listening = asyncio.create_task(WorkQueue(pool, "digest").listen(lambda: next(woken)))
        async with logged_in(stack, "operator") as operator:
            await seen(
                operator,
                "SELECT true FROM pg_stat_activity WHERE application_name = 'penstock-test' AND query ~ '^LISTEN'",
            )
        seconds = await storm(reader, WORK, "digest")
        await asyncio.sleep(3 * WAKE_SECONDS)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert 2 <= next(woken) <= seconds / WAKE_SECONDS + 6


async def test_a_storm_of_notifications_wakes_the_feed_at_a_bounded_rate(stack, reader, monkeypatch):
    feed, woken = Feed(NoFacts(), limiter("streams", IngressSettings())), itertools.count()
    heard = asyncio.Event()
    monkeypatch.setattr(feed, "notify", lambda: (next(woken), heard.set()))
    listening = asyncio.create_task(feed.listen(SecretStr(dsn_as(stack, "ingress"))))
    async with asyncio.timeout(10):
        await heard.wait()
    seconds = await storm(reader, FACTS, "")
    await asyncio.sleep(3 * WAKE_SECONDS)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert 2 <= next(woken) <= seconds / WAKE_SECONDS + 6
