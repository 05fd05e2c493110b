"""What a service's own database role can reach when the service is taken over, and how set-up makes these roles."""

# ruff: noqa: S608 - names of ours

import asyncio
import uuid

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from deploy.native.install import CHECKOUT
from services.catalogue import manifests
from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.core.datasets import Datasets
from shared.postgres import OWNER, migrate, open_pool
from shared.provision import grants
from shared.provision.database import ensure_database
from shared.provision.reader import ensure_reader
from shared.provision.rights import READER, role_name, schemas
from shared.work import MIGRATIONS, WorkQueue
from tests.support import ingress
from tests.support.roles import dsn_as, logged_in

pytestmark = pytest.mark.integration

DENIED = (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)
RELATIONS = """
SELECT format('%I.%I', nspname, relname) AS name, nspname AS schema, relname AS bare, relkind = 'v' AS is_view
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = ANY ($1) AND relkind IN ('r', 'p', 'v', 'm')
"""
RIGHTS = manifests().with_role
SHARED_VIEWS = {"datasets", "digests", "loads", "objects", "rejects", "sources", "sweeps", "timeline", "work"}
USERS = """
[{name}]
bucket = "src-data"
prefix = "{name}/"
key = "id"
columns.{column}.type = "text"
"""


def datasets(name: str, column: str) -> Datasets:
    return Datasets.parse(USERS.format(name=name, column=column))


@pytest.fixture
async def database(stack):
    """Give the name of an empty database beside the stack's own."""
    name = f"roles_{uuid.uuid4().hex[:8]}"
    async with logged_in(stack, "operator") as operator:
        await operator.execute(f"CREATE DATABASE {name}")
        yield name
        await operator.execute(f"DROP DATABASE {name} WITH (FORCE)")


def set_up(stack, database):
    passwords = {name: SecretStr(stack.env[f"PENSTOCK_POSTGRES_PASSWORD_{name.upper()}"]) for name in RIGHTS}
    return ensure_database(SecretStr(dsn_as(stack, "operator", database)), manifests(), passwords)


async def refused(connection, statement: str, *values: object) -> None:
    with pytest.raises(DENIED):
        await connection.execute(statement, *values)


def test_each_service_works_as_its_own_role_and_none_as_a_superuser(system):
    ingress.serve(system)
    system.serve("etl")
    rows = system.database.rows(
        "SELECT DISTINCT application_name AS service, usename, rolsuper FROM pg_stat_activity"
        " JOIN pg_roles ON pg_roles.oid = usesysid WHERE application_name = ANY ($1)",
        [f"penstock-{name}" for name in RIGHTS],
    )
    assert {(row["service"], row["usename"], row["rolsuper"]) for row in rows} == {
        (f"penstock-{name}", role_name(name), False) for name in RIGHTS
    }


@pytest.mark.parametrize("service", RIGHTS)
async def test_a_service_reads_its_own_tables_and_the_views_it_needs_and_no_others(stack, service):
    rights = RIGHTS[service]
    async with logged_in(stack, service) as connection:
        rows = await connection.fetch(RELATIONS, [*schemas(RIGHTS)])
        assert {"ingress.tokens", "ingress.logins", "ingress.webhooks", "work.items"} <= {row["name"] for row in rows}
        for row in rows:
            is_own = row["schema"] == service or (row["schema"] == "work" and rights.queues)
            if is_own or (row["is_view"] and row["bare"] in rights.reads):
                await connection.fetch(f"SELECT * FROM {row['name']} LIMIT 1")
            elif not row["is_view"]:
                await refused(connection, f"SELECT * FROM {row['name']} LIMIT 1")
                await refused(connection, f"DELETE FROM {row['name']}")
            elif row["bare"] in SHARED_VIEWS:
                await refused(connection, f"SELECT * FROM {row['name']} LIMIT 1")


@pytest.mark.parametrize("service", RIGHTS)
async def test_a_service_that_is_taken_over_leaves_its_schema_by_no_door(stack, service):
    statements = [
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY work.migrations FROM PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/mine'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_create(0)",
        "SELECT rolpassword FROM pg_authid",
        "SELECT query_to_xml('SELECT 1', true, true, '')",
        "CREATE ROLE mine",
        f"ALTER ROLE {OWNER} LOGIN",
        f"ALTER ROLE {READER} PASSWORD 'mine'",
        f"GRANT {OWNER} TO {role_name(service)}",
        f"SET ROLE {OWNER}",
        "SET SESSION AUTHORIZATION penstock",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "CREATE DATABASE mine",
        "CREATE SCHEMA mine",
        "CREATE TABLE public.mine (a int)",
        "CREATE EXTENSION hstore",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DO $$ BEGIN END $$",
        "CREATE OR REPLACE VIEW api.objects AS SELECT 1 AS bucket",
        "ALTER VIEW api.digests RENAME TO mine",
        "DROP VIEW api.loads",
        f"ALTER TABLE {service}.migrations ADD COLUMN mine int",
        f"DELETE FROM {service}.migrations",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {service} TO PUBLIC",
        "INSERT INTO work.items (queue, key, payload) VALUES ('another', 'k', '{}')",
        "SELECT setval('work.tokens', 1)",
        "TRUNCATE ingress.tokens",
    ]
    statements += (
        [] if service == "etl" else ["CREATE TEMPORARY TABLE mine (a int)", "CREATE VIEW api.mine AS SELECT 1"]
    )
    statements += [] if service == "ingest" else ["SELECT limits.end_overdue_readers()"]
    async with logged_in(stack, service) as connection:
        for statement in statements:
            try:
                await connection.execute(statement)
            except DENIED:
                continue
            except asyncpg.PostgresError as error:
                pytest.fail(f"{statement}: {error!r}")
            if not statement.startswith("GRANT SELECT"):  # a warning, and nothing granted
                pytest.fail(statement)
        granted = await connection.fetchval(f"SELECT has_table_privilege('{READER}', '{service}.migrations', 'SELECT')")
        assert not granted


async def test_a_service_sees_the_leased_work_of_its_own_queues_alone(stack):
    key = uuid.uuid4().hex
    async with open_pool(SecretStr(dsn_as(stack, "hasher")), service="test") as pool:
        queue = WorkQueue(pool, "digest")
        assert await queue.add(key, {"bucket": "b", "key": "k"})
        async with logged_in(stack, "etl") as etl:
            assert await etl.fetch("SELECT * FROM work.items WHERE key = $1", key) == []
            assert await etl.execute("UPDATE work.items SET state = 'failed' WHERE key = $1", key) == "UPDATE 0"
            assert await etl.execute("DELETE FROM work.items WHERE key = $1", key) == "DELETE 0"
        assert await pool.fetchval("SELECT state FROM work.items WHERE key = $1", key) in {"pending", "running"}
        async with logged_in(stack, "ingress") as reader:
            assert await reader.fetchval("SELECT queue FROM api.work WHERE key = $1", key) == "digest"
    async with logged_in(stack, "operator") as operator:
        await operator.execute("DELETE FROM work.items WHERE key = $1", key)


async def test_no_role_gets_into_another_database(stack):
    for who in ("reader", *RIGHTS):
        for database in ("postgres", "template1"):
            with pytest.raises(DENIED):
                async with logged_in(stack, who, database):
                    pass


async def test_a_view_of_another_service_cannot_run_statements_as_its_reader(stack):
    name = f"trap_{uuid.uuid4().hex[:8]}"
    spying = "SELECT query_to_xml('SELECT hash FROM ingress.tokens', true, true, '')::text AS found"
    async with logged_in(stack, "etl") as etl, logged_in(stack, "ingress") as victim:
        await etl.execute(f"CREATE VIEW api.{name} AS {spying}")
        try:
            await refused(victim, f"SELECT * FROM api.{name}")
        finally:
            await etl.execute(f"DROP VIEW api.{name}")


async def made_by_a_superuser(dsn: str, name: str) -> None:
    """Do what services did that had the operator's user."""
    await ensure_schema(SecretStr(dsn))
    for schema in ("ingest", "hasher", "ingress"):
        await migrate(SecretStr(dsn), schema, f"services.{schema}.migrations")
    async with open_pool(SecretStr(dsn), service="test") as pool:
        await ensure_tables(pool, datasets(name, "first"))
        await pool.execute(f"INSERT INTO etl.{name} (id, first, source_id, line) VALUES ('a', 'b', 1, 1)")


async def test_a_database_that_a_superuser_made_is_taken_over_in_place(stack, database):
    name, dsn = f"u{uuid.uuid4().hex[:8]}", dsn_as(stack, "operator", database)
    await made_by_a_superuser(dsn, name)
    await ensure_reader(SecretStr(dsn), SecretStr(stack.env["PENSTOCK_READER_PASSWORD"]))
    changed = await asyncio.gather(*(set_up(stack, database) for _ in range(3)))
    assert sum(map(bool, changed)) == 1, changed
    assert await set_up(stack, database) == []
    async with logged_in(stack, "operator", database) as operator:
        owners = await operator.fetch(
            "SELECT relname, rolname FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner"
            " WHERE relnamespace = ANY ($1::regnamespace[])",
            list(schemas(RIGHTS)),
        )
        assert {row["rolname"] for row in owners} == {OWNER, "penstock_etl"}
        made = {row["relname"] for row in owners if row["rolname"] == "penstock_etl"}
        assert made == {name, f"{name}_pkey", f"{name}_by_source"}
        assert await operator.fetchval(f"SELECT first FROM etl.{name}") == "b"
    await migrate(SecretStr(dsn_as(stack, "etl", database)), "etl", "services.etl.migrations")
    async with open_pool(SecretStr(dsn_as(stack, "etl", database)), service="test") as pool:
        assert await ensure_tables(pool, datasets(name, "last")) == [name]
    for who in ("reader", "ingress"):
        async with logged_in(stack, who, database) as connection:
            assert await connection.fetch(f"SELECT last FROM api.{name}") == []
    assert await set_up(stack, database) == []


async def test_a_reader_that_holds_a_table_does_not_hold_up_set_up(stack, database):
    await ensure_reader(
        SecretStr(dsn_as(stack, "operator", database)), SecretStr(stack.env["PENSTOCK_READER_PASSWORD"])
    )
    await set_up(stack, database)
    async with logged_in(stack, "operator", database) as operator, logged_in(stack, "reader", database) as reader:
        await operator.execute("ALTER VIEW api.digests OWNER TO penstock")
        await reader.execute("BEGIN; SELECT * FROM api.digests")
        async with asyncio.timeout(40):
            assert await set_up(stack, database) == ["role penstock_owner: owns 1 more schemas, tables and views"]
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await reader.execute("SELECT 1")


async def test_a_service_waits_for_the_migration_that_set_up_has_not_made(stack, database):
    await set_up(stack, database)
    with capture_logs() as logs:
        async with logged_in(stack, "operator", database) as operator:
            applied = "0001.digests.sql"
            (row,) = await operator.fetch("DELETE FROM hasher.migrations WHERE name = $1 RETURNING *", applied)
            dsn = SecretStr(dsn_as(stack, "hasher", database))
            waiting = asyncio.create_task(migrate(dsn, "hasher", "services.hasher.migrations"))
            done, _ = await asyncio.wait([waiting], timeout=1.5)  # several tries
            assert not done
            await operator.execute("INSERT INTO hasher.migrations VALUES ($1, $2, $3)", *row.values())
        async with asyncio.timeout(20):
            await waiting
    (said,) = [line["reason"] for line in logs if line["event"] == "postgres.schema_behind"]
    assert said == f"schema hasher lacks {applied}: run `penstock setup`"


async def test_a_service_waits_for_set_up_in_an_empty_database(stack, database):
    dsn = SecretStr(dsn_as(stack, "hasher", database))
    with capture_logs() as logs:
        waiting = asyncio.create_task(migrate(dsn, "work", MIGRATIONS))
        done, _ = await asyncio.wait([waiting], timeout=1.5)
        assert not done
        await set_up(stack, database)
        async with asyncio.timeout(20):
            await waiting
    applied = [
        line["migration"] for line in logs if line["event"] == "postgres.migrated" and line["schema"] == "hasher"
    ]
    assert applied == sorted(one.name for one in (CHECKOUT / "services/hasher/migrations").glob("*.sql"))


async def test_rights_that_somebody_changed_are_set_again(stack, database):
    await set_up(stack, database)
    async with logged_in(stack, "operator", database) as operator:
        await operator.execute(
            f"REVOKE DELETE ON ingest.objects FROM penstock_ingest; GRANT SELECT ON ingress.tokens TO {READER};"
            "GRANT INSERT ON ingress.tokens TO penstock_etl; ALTER ROLE penstock_hasher CREATEROLE;"
            "GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC"
        )
        await operator.execute("ALTER TABLE hasher.digests OWNER TO penstock")
        catalog = await grants.read(operator, RIGHTS)
    assert [right.name for right in grants.missing(catalog) if right.grantee == "penstock_ingest"] == ["ingest.objects"]
    assert sorted(await set_up(stack, database)) == [
        "PUBLIC: revoked 1 rights",
        "role penstock_etl: revoked 1 rights",
        "role penstock_hasher: set",
        "role penstock_ingest: granted 1 rights",
        "role penstock_owner: owns 1 more schemas, tables and views",
        "role penstock_reader: revoked 1 rights",
    ]
    assert await set_up(stack, database) == []


async def test_an_operator_who_is_no_superuser_but_makes_roles_gets_them_all(stack, database):
    async with logged_in(stack, "operator", database) as root:
        await root.execute("CREATE ROLE landlord LOGIN PASSWORD 'l' CREATEROLE")
        await root.execute(f"ALTER DATABASE {database} OWNER TO landlord")
        dsn = SecretStr(f"postgresql://landlord:l@{dsn_as(stack, 'operator', database).rpartition('@')[2]}")
        passwords = {name: SecretStr(stack.env[f"PENSTOCK_POSTGRES_PASSWORD_{name.upper()}"]) for name in RIGHTS}
        try:
            assert "schema etl: migration 0001.etl.sql applied" in await ensure_database(dsn, manifests(), passwords)
            assert await ensure_database(dsn, manifests(), passwords) == []
            async with open_pool(SecretStr(dsn_as(stack, "etl", database)), service="test") as pool:
                assert await ensure_tables(pool, datasets("mine", "first")) == ["mine"]
            async with logged_in(stack, "hasher", database) as hasher:
                await refused(hasher, "SELECT * FROM ingress.tokens")
        finally:
            await root.execute(f"ALTER DATABASE {database} OWNER TO penstock; REASSIGN OWNED BY landlord TO penstock")
            await root.execute("DROP OWNED BY landlord; DROP ROLE landlord")


async def test_a_database_that_lets_nobody_make_roles_gets_a_line_and_works_with_one_user(stack, database):
    async with logged_in(stack, "operator", database) as root:
        await root.execute("CREATE ROLE tenant LOGIN PASSWORD 't'")
        await root.execute(f"ALTER DATABASE {database} OWNER TO tenant")
        address = dsn_as(stack, "operator", database).rpartition("@")[2]
        dsn = SecretStr(f"postgresql://tenant:t@{address}")
        passwords = {"hasher": SecretStr("another than that of the stack")}
        try:
            (line,) = await ensure_database(dsn, manifests(), passwords)
            assert "services use the user of PENSTOCK_POSTGRES_DSN" in line
            await ensure_schema(dsn)
            async with open_pool(dsn, service="test") as pool:
                assert await ensure_tables(pool, datasets("mine", "first")) == ["mine"]
                assert await WorkQueue(pool, "digest").add("k", {})
        finally:
            await root.execute(f"ALTER DATABASE {database} OWNER TO penstock; REASSIGN OWNED BY tenant TO penstock")
            await root.execute("DROP OWNED BY tenant; DROP ROLE tenant")
