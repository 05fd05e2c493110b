"""One database role for tools that read: the views of schema `api`, those that are made later too, and nothing else."""

import base64
import hashlib
import hmac
import os
import unicodedata
from typing import Final

import asyncpg
from pydantic import SecretStr

from shared.postgres import COMMAND_SECONDS, CONNECT_SECONDS, MIGRATION_LOCK, Connection

READER: Final = "penstock_reader"
CONNECTIONS: Final = 20
"""At a time: a few dashboards, and never all that Postgres has."""

_SESSION: Final = {
    "default_transaction_read_only": "on",
    "statement_timeout": "5min",
    "idle_in_transaction_session_timeout": "1min",
    "search_path": "api",
}
_ITERATIONS: Final = 4096
"""Of SCRAM, as Postgres has it by default."""


async def ensure_reader(dsn: SecretStr, password: SecretStr) -> list[str]:
    """Make the reading role with this password; without one it cannot log in, and is not made.

    Needs a database user who may make roles; where it may not, one line says what to ask for, and nothing fails.
    """
    connection = await _connect(dsn)
    try:
        async with connection.transaction():
            # migrations make and change schema api too
            await connection.execute(MIGRATION_LOCK)
            if not password.get_secret_value():
                return await _close(connection)
            changed = await _ensure_role(connection) + await _ensure_rights(connection)
            return changed + await _ensure_password(connection, dsn, password)
    except asyncpg.InsufficientPrivilegeError as error:
        return [f"role {READER}: {error}; have it made by a database user who may make roles, see docs/etl.md"]
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def _close(connection: Connection) -> list[str]:
    if not await connection.fetchval("select rolcanlogin from pg_roles where rolname = $1", READER):
        return []
    await connection.execute(f"alter role {READER} nologin password null")
    return [f"role {READER}: may not log in any more, for PENSTOCK_READER_PASSWORD is empty"]


async def _ensure_role(connection: Connection) -> list[str]:
    wanted = [f"{name}={value}" for name, value in _SESSION.items()]
    role = await connection.fetchrow(
        "select rolcanlogin, rolconnlimit, coalesce(rolconfig, '{}') as config from pg_roles where rolname = $1", READER
    )
    if role is None:
        await connection.execute(f"create role {READER}")
    elif (role["rolcanlogin"], role["rolconnlimit"], role["config"]) == (True, CONNECTIONS, wanted):
        return []
    await connection.execute(
        f"alter role {READER} reset all;"
        f"alter role {READER} login nosuperuser nocreatedb nocreaterole noreplication connection limit {CONNECTIONS};"
        + ";".join(f"alter role {READER} set {name} = '{value}'" for name, value in _SESSION.items())
    )
    return [f"role {READER}: {'set' if role else 'made'}"]


async def _ensure_rights(connection: Connection) -> list[str]:
    """Give what is in schema api, now and later, and take from everybody what would let a reader write elsewhere."""
    await connection.execute("create schema if not exists api")
    if await connection.fetchval(_HAS_RIGHTS, READER):
        return []
    database = await connection.fetchval("select quote_ident(current_database())")
    await connection.execute(
        f"""
        grant connect on database {database} to {READER};
        grant usage on schema api to {READER};
        grant select on all tables in schema api to {READER};
        alter default privileges in schema api grant select on tables to {READER};
        revoke create on schema public from public;
        revoke temporary on database {database} from public;
        """  # noqa: S608 - names of ours, and one that Postgres quoted
    )
    return [f"role {READER}: may read schema api"]


_HAS_RIGHTS: Final = """
select has_schema_privilege($1, 'api', 'usage')
   and coalesce(bool_and(has_table_privilege($1, class.oid, 'select')), true)
   and exists (
       select from pg_default_acl as later, aclexplode(later.defaclacl) as granted
       where later.defaclrole = current_user::regrole and later.defaclnamespace = 'api'::regnamespace
         and granted.grantee = $1::regrole and granted.privilege_type = 'SELECT'
   )
   and not has_schema_privilege($1, 'public', 'create')
   and not has_database_privilege($1, current_database(), 'temporary')
from pg_class as class where class.relnamespace = 'api'::regnamespace and class.relkind in ('r', 'v', 'm', 'p')
"""


async def _ensure_password(connection: Connection, dsn: SecretStr, password: SecretStr) -> list[str]:
    if await _lets_in(dsn, password):
        return []
    # a verifier, as psql's \password sends it: the server may log statements
    await connection.execute(f"alter role {READER} password '{_verifier(password.get_secret_value())}'")
    return [f"role {READER}: password set"]


async def _lets_in(dsn: SecretStr, password: SecretStr) -> bool:
    """Tell whether the reader gets in with this password; a role that is not committed yet does not."""
    try:
        connection = await _connect(dsn, user=READER, password=password.get_secret_value())
    except asyncpg.InvalidAuthorizationSpecificationError:
        return False
    except asyncpg.TooManyConnectionsError:  # it is counted after it was let in
        return True
    await connection.close(timeout=CONNECT_SECONDS)
    return True


def _verifier(password: str) -> str:
    """Return what Postgres keeps of a password for SCRAM-SHA-256 (RFC 5803), so that it never learns the password."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", unicodedata.normalize("NFKC", password).encode(), salt, _ITERATIONS)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    stored, shown_salt, shown_server = (
        base64.b64encode(part).decode() for part in (hashlib.sha256(client).digest(), salt, server)
    )
    return f"SCRAM-SHA-256${_ITERATIONS}:{shown_salt}${stored}:{shown_server}"


async def _connect(
    dsn: SecretStr, user: str | None = None, password: str | None = None
) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(
        dsn.get_secret_value(),
        user=user,
        password=password,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings={"application_name": "penstock-set-up"},
    )
