"""PostgreSQL: a connection pool that retries outages, and migrations that concurrent processes run once.

This module registers the errors of asyncpg that retrying or reconnecting fixes as outages. A cancelled statement or a
violated constraint is none.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg import exceptions
from pydantic import SecretStr

from shared import tls
from shared.errors import Outage, PenstockError, one_line, register_outage_check, register_outages, register_rejections
from shared.jsonb import register_json_codec
from shared.outages import is_outage, retry_outages

if TYPE_CHECKING:  # asyncpg's classes are generic in its stubs only
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

log = structlog.get_logger()
T = TypeVar("T")

CONNECT_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 5.0
LOCK_SECONDS: Final = 3.0
"""How long DDL waits for a lock before it retries; while it waits, it blocks all readers."""
OWNER: Final = "penstock_owner"
"""The role, without login, that owns schemas, tables and views if set-up has created it."""
MIGRATION_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('penstock.migrate', 0))"
"""Takes the lock that serializes changes of roles, schemas and rights in a database."""

register_outages(
    exceptions.PostgresConnectionError,
    exceptions.AdminShutdownError,
    exceptions.CrashShutdownError,
    exceptions.CannotConnectNowError,
    exceptions.IdleSessionTimeoutError,
    exceptions.InsufficientResourcesError,
    exceptions.TransactionRollbackError,
    exceptions.LockNotAvailableError,
    exceptions.ReadOnlySQLTransactionError,  # a standby, until the failover is over
    exceptions.PostgresIOError,
    # the database is being restored or not yet set up for this version: no record is at fault, and set-up fixes it
    exceptions.UndefinedTableError,
    exceptions.InvalidSchemaNameError,
    exceptions.InvalidAuthorizationSpecificationError,
    exceptions.InsufficientPrivilegeError,
    exceptions.UndefinedColumnError,  # the schema is older than this version, until it is migrated
)

# NUL or a lone surrogate in text, a number out of range: the same value fails each time
register_rejections(exceptions.DataError)


def _is_lost_connection(error: BaseException) -> bool:
    """Return whether a connection was lost rather than misused; asyncpg has one type for both.

    The first statement or rollback after the loss raises one of the first two texts (asyncpg 0.32: connection.py
    `_check_open`, protocol.pyx `_check_state`, connresource.py, and pool.py, where the proxy loses its connection). A
    statement between the server's last message and the end of the connection raises the third (coreproto.pyx
    `_set_state`: 2 is PROTOCOL_ERROR_CONSUME).
    """
    return isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)) and str(error).endswith(
        (
            "connection is closed",
            "connection has been released back to the pool",
            "another operation (2) is in progress",
        )
    )


register_outage_check(_is_lost_connection)


class MigrationChanged(PenstockError):  # noqa: N818 - what happened, as everywhere here
    """The file of an applied migration was changed afterwards."""

    def __init__(self, schema: str, name: str) -> None:
        super().__init__(
            f"migration {name} of schema {schema} was changed after it was applied; "
            "restore its text and put the change into a new file"
        )


class _Connector:
    """Opens connections, and logs once when Postgres becomes unreachable and once when it is back."""

    def __init__(self) -> None:
        self._away_since: float | None = None

    async def connect(self, *args: Any, **kwargs: Any) -> "asyncpg.Connection[asyncpg.Record]":
        """Connect; raise Outage if the server cannot be reached."""
        try:
            connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(*args, **kwargs)
        except OSError as error:  # refused, timed out, unknown host, no such socket, or several of these
            self._away(error)
            raise Outage(f"Postgres does not answer: {tls.describe_failure(error) or one_line(error)}") from error
        except Exception as error:
            if is_outage(error):
                self._away(error)
            raise
        self._back()
        return connection

    def _away(self, error: BaseException) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("postgres.away", reason=tls.describe_failure(error) or one_line(error))

    def _back(self) -> None:
        if self._away_since is not None:
            log.info("postgres.back", seconds=round(time.monotonic() - self._away_since, 3))
            self._away_since = None


def _session(name: str) -> dict[str, str]:
    return {
        "application_name": f"penstock-{name}",
        "idle_in_transaction_session_timeout": "60s",
        # a killed process's statement ends with it, and its locks too
        "client_connection_check_interval": "1s",
    }


@asynccontextmanager
async def open_pool(dsn: SecretStr, *, service: str, max_size: int = 8, wait: bool = True) -> AsyncIterator[Pool]:
    """Open a pool of at most `max_size` connections; with `wait`, only once Postgres answers. jsonb is Python values.

    Statements time out after `COMMAND_SECONDS`. The server ends transactions that are idle for a minute, so that a
    stopped process holds no locks.
    """
    pool = asyncpg.create_pool(
        dsn.get_secret_value(),
        min_size=0,
        max_size=max_size,
        connect=_Connector().connect,
        init=register_json_codec,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings=_session(service),
    )
    await pool
    try:
        if wait:
            await retry_outages(lambda: pool.execute("select 1"))
        yield pool
    finally:
        await _close(pool)


async def _close(pool: Pool) -> None:
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await pool.close()
    pool.terminate()


class SchemaBehind(Outage):
    """A schema lacks migrations, and this user may not apply them."""

    def __init__(self, schema: str, problem: str) -> None:
        super().__init__(f"schema {schema} {problem}: run `penstock setup`")


async def migrate(dsn: SecretStr, schema: str, package: str) -> None:
    """Apply the .sql files of `package` that `schema` lacks, in the order of their names; retry outages.

    `package` is the folder's dotted name, such as `services.<name>.migrations`. All files run in one transaction under
    one advisory lock of the database: of several processes that start at once one migrates, and a killed one leaves
    no partial state. A user who may not create schemas waits until set-up has migrated.

    Raises:
        MigrationChanged: an applied file was changed afterwards.

    """
    connector, is_behind = _Connector(), False

    async def apply() -> None:
        nonlocal is_behind
        connection = await connector.connect(
            dsn.get_secret_value(),
            timeout=CONNECT_SECONDS,
            server_settings=_session(f"migrate-{schema}"),
        )
        try:
            async with connection.transaction():
                if await connection.fetchval("select has_database_privilege(current_database(), 'create')"):
                    await apply_migrations(connection, schema, package)
                else:
                    await _require_migrations(connection, schema, _migrations(package))
        except SchemaBehind as error:
            if not is_behind:
                log.warning("postgres.schema_behind", reason=str(error))
            is_behind = True
            raise
        finally:
            await connection.close(timeout=CLOSE_SECONDS)

    await retry_outages(apply)


def _migrations(package: str) -> dict[str, str]:
    folder = resources.files(package)
    files = {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".sql")}
    if not files:
        raise PenstockError(f"{package} holds no migrations (*.sql)")
    return dict(sorted(files.items()))


async def apply_migrations(connection: Connection, schema: str, package: str) -> list[str]:
    """Apply the missing migrations in the caller's transaction, as OWNER if that role exists; return their names.

    Raises:
        LockNotAvailableError: a reader holds a lock on a table that a migration changes.

    """
    files = _migrations(package)
    await connection.execute(MIGRATION_LOCK)
    await connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
    await act_as(connection, OWNER, schemas=["api", schema])
    await connection.execute(
        f"""
        create schema if not exists api;
        create schema if not exists {schema};
        create table if not exists {schema}.migrations (
            name text primary key, checksum text not null, applied_at timestamptz not null default now()
        )
        """
    )
    missing = await _missing(connection, schema, files)
    for name, text in missing.items():
        await _run(connection, schema, name, text)
        await connection.execute(
            f"insert into {schema}.migrations (name, checksum) values ($1, $2)",  # noqa: S608 - a fixed name
            name,
            _checksum(text),
        )
        log.info("postgres.migrated", schema=schema, migration=name)
    await connection.execute("set local role none")
    return [*missing]


async def act_as(connection: Connection, role: str, *, schemas: Sequence[str] = ()) -> None:
    """Switch to `role` for the transaction if set-up has created it in this database and the user is a member.

    Without effect unless `role` owns all existing `schemas`: before set-up they belong to the connecting user.
    """
    await connection.execute(_ACT_AS, role, schemas)


_ACT_AS: Final = """
select set_config('role', rolname, true) from pg_roles
where rolname = $1 and rolname <> current_user and pg_has_role(oid, 'member') and exists (
    select from pg_database, aclexplode(datacl) where datname = current_database() and grantee = pg_roles.oid
) and not exists (select from pg_namespace where nspname = any($2) and nspowner <> pg_roles.oid)
"""


async def _missing(connection: Connection, schema: str, files: dict[str, str]) -> dict[str, str]:
    """Return the files that have not been applied."""
    rows = await connection.fetch(f"select name, checksum from {schema}.migrations")  # noqa: S608 - a fixed name
    applied = {row["name"]: row["checksum"] for row in rows}
    for name, text in files.items():
        if applied.get(name, _checksum(text)) != _checksum(text):
            raise MigrationChanged(schema, name)
    return {name: text for name, text in files.items() if name not in applied}


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def _require_migrations(connection: Connection, schema: str, files: dict[str, str]) -> None:
    try:
        missing = await _missing(connection, schema, files)
    except (
        exceptions.UndefinedTableError,
        exceptions.InvalidSchemaNameError,
        exceptions.InsufficientPrivilegeError,
    ) as error:
        raise SchemaBehind(schema, f"cannot be read ({one_line(error)})") from error
    if missing:
        raise SchemaBehind(schema, f"lacks {', '.join(missing)}")


async def _run(connection: Connection, schema: str, name: str, text: str) -> None:
    """Run one migration; a missing table or column is its own fault and not an outage."""
    try:
        await connection.execute(text)
    except (
        exceptions.UndefinedTableError,
        exceptions.InvalidSchemaNameError,
        exceptions.UndefinedColumnError,
    ) as error:
        raise PenstockError(f"migration {name} of schema {schema} fails: {one_line(error)}") from error
