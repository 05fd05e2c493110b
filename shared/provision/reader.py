"""One database role for tools that read: the views of schema `api`, those that are made later too, and nothing else."""

from typing import Final

import asyncpg
from pydantic import SecretStr

from shared.postgres import CONNECT_SECONDS, MIGRATION_LOCK, Connection
from shared.provision.limits import READER_LIMITS
from shared.provision.rights import READER
from shared.provision.roles import Role, connect, ensure_password, ensure_role, lock_role

MAX_CONNECTIONS: Final = 20
"""At a time: a few dashboards, and never all that Postgres has."""

ROLE: Final = Role(
    READER,
    MAX_CONNECTIONS,
    session={
        "default_transaction_read_only": "on",
        "statement_timeout": READER_LIMITS.transaction,
        "idle_in_transaction_session_timeout": READER_LIMITS.idle_in_transaction,
        "idle_session_timeout": READER_LIMITS.idle,
        "search_path": "api",
    },
    limits={"temp_file_limit": READER_LIMITS.temporary_files},
)


async def ensure_reader(dsn: SecretStr, password: SecretStr) -> list[str]:
    """Make the reading role with this password; without one it cannot log in, and is not made.

    Needs a database user who may make roles; where it may not, one line says what to ask for, and nothing fails.
    """
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            # migrations make and change schema api too
            await connection.execute(MIGRATION_LOCK)
            if not password.get_secret_value():
                return await lock_role(connection, READER, "PENSTOCK_READER_PASSWORD")
            changed = await ensure_role(connection, ROLE) + await _ensure_rights(connection)
            return changed + await ensure_password(connection, dsn, READER, password)
    except asyncpg.InsufficientPrivilegeError as error:
        return [f"role {READER}: {error}; have it made by a database user who may make roles, see docs/etl.md"]
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


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
