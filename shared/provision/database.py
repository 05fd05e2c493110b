"""The database as set-up leaves it: an owner apart, a role per service, migrations, and no more rights than needed."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

import asyncpg
import stamina
from pydantic import SecretStr

from shared.environment import ROLE_PASSWORD
from shared.postgres import CONNECT_SECONDS, LOCK_SECONDS, MIGRATION_LOCK, OWNER, Connection, apply_migrations
from shared.provision import grants
from shared.provision.limits import ensure_limits
from shared.provision.rights import READER, RIGHTS, Rights, role_name, schemas
from shared.provision.roles import Role, connect, ensure_password, ensure_role, lock_role
from shared.work import MIGRATIONS

MAX_ATTEMPTS: Final = 10
"""Each waits `LOCK_SECONDS` for what changes; readers that hold it longer are ended before the next one."""


async def ensure_database(dsn: SecretStr, passwords: Mapping[str, SecretStr]) -> list[str]:
    """Make the role of each service that has a password, migrate as the owner, and set every right; say what changed.

    A database that a single user made is taken over in place. A service without a password has no role and uses the
    DSN's own user. A user who may not make roles gets one line that says so, and nothing fails.
    """
    known = {name: one for name in RIGHTS if (one := passwords.get(name, SecretStr(""))).get_secret_value()}
    busy = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
    connection = await connect(dsn)
    try:
        async for attempt in stamina.retry_context(on=busy, attempts=MAX_ATTEMPTS, timeout=None, wait_max=1):
            with attempt:
                if attempt.num > 1:
                    await connection.execute(_END_READERS, READER, timedelta(seconds=LOCK_SECONDS))
                changed = await _ensure(connection, known)
        return changed + await _ensure_passwords(connection, dsn, known)
    except asyncpg.InsufficientPrivilegeError as error:
        return [f"database roles: {error}; services use the user of PENSTOCK_POSTGRES_DSN, see docs/operations.md"]
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


# Ingest, which ends overdue readers, may not run yet.
_END_READERS: Final = """
select pg_terminate_backend(pid) from pg_stat_activity
where usename = $1 and xact_start < clock_timestamp() - $2::interval
"""


async def _ensure(connection: Connection, services: Iterable[str]) -> list[str]:
    async with connection.transaction():
        await connection.execute(MIGRATION_LOCK)
        await connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
        return [
            *[line for name in RIGHTS if name not in services for line in await _lock(connection, name)],
            *(await _ensure_owned(connection, services) if services else []),
            *await ensure_rights(connection),
        ]


async def _lock(connection: Connection, service: str) -> list[str]:
    return await lock_role(connection, role_name(service), ROLE_PASSWORD + service.upper())


async def _ensure_owned(connection: Connection, services: Iterable[str]) -> list[str]:
    changed = []
    for service in services:
        changed += await ensure_role(connection, Role(role_name(service)))
    changed += await _ensure_owner(connection)
    changed += await _ensure_ownership(connection)
    for schema, package in {"work": MIGRATIONS, **{name: f"services.{name}.migrations" for name in RIGHTS}}.items():
        applied = await apply_migrations(connection, schema, package)
        changed += [f"schema {schema}: migration {name} applied" for name in applied]
    if await _exists(connection, READER):
        changed += await ensure_limits(connection)
    return changed + await _ensure_policies(connection, [*services])


async def ensure_rights(connection: Connection) -> list[str]:
    """Grant what is missing and revoke what is too much."""
    catalog = await grants.read(connection)
    missing, excess = grants.missing(catalog), grants.excess(catalog)
    statements = [grants.statement(right, grant=True) for right in missing]
    statements += [grants.statement(right, grant=False) for right in excess]
    if statements:
        await connection.execute("; ".join(statements))
    return grants.summary(missing, "granted") + grants.summary(excess, "revoked")


async def _ensure_owner(connection: Connection) -> list[str]:
    """Make the owner; as a member of the reading role it sees and ends that one's sessions, and no others."""
    changed = []
    if not await _exists(connection, OWNER):
        await connection.execute(f"create role {OWNER} nologin")
        changed = [f"role {OWNER}: made"]
    for name in await connection.fetch(_MEMBERSHIPS, READER, OWNER, [OWNER, *map(role_name, RIGHTS)]):
        await connection.execute(f"grant {name['role']} to {name['member']}")
    if not await connection.fetchval("select has_database_privilege($1, current_database(), 'create')", OWNER):
        database = await connection.fetchval("select quote_ident(current_database())")
        await connection.execute(f"grant create on database {database} to {OWNER}")
    return changed


_MEMBERSHIPS: Final = """
select role.rolname as role, quote_ident(member.rolname) as member from pg_roles as role, pg_roles as member
where not pg_has_role(member.oid, role.oid, 'member')
    and ((role.rolname, member.rolname) = ($1, $2) or role.rolname = any($3) and member.rolname = current_user)
"""


async def _ensure_ownership(connection: Connection) -> list[str]:
    """Give everything in Penstock's schemas to the owner, and to a service what it has made at run time."""
    made = {}
    for service, rights in RIGHTS.items():
        if rights.makes_tables and await _exists(connection, role_name(service)):
            made[service] = await _names(connection, rights)
    rows = await connection.fetch(_OWNERS, [*schemas()], OWNER)
    wanted = [(row, _owner_of(row, made)) for row in rows]
    statements = [f"alter {row['kind']} {row['name']} owner to {to}" for row, to in wanted if row["owner"] != to]
    if statements:
        await connection.execute("; ".join(statements))
    return [f"role {OWNER}: owns {len(statements)} schemas, tables and views more"] if statements else []


def _owner_of(thing: asyncpg.Record, made: Mapping[str, set[str]]) -> str:
    """Return the role that should own a schema, relation or routine; `made` has names of relations by service."""
    makers = {role_name(service) for service in made}
    listed = (one for one, names in made.items() if thing["schema"] in {"api", one} and thing["bare"] in names)
    owner: str = thing["owner"]
    return next(map(role_name, listed), owner if owner in makers else OWNER)


async def _names(connection: Connection, rights: Rights) -> set[str]:
    if await connection.fetchval("select to_regclass($1)", rights.makes_tables) is None:
        return set()
    rows = await connection.fetch(f"select name from {rights.makes_tables}")  # noqa: S608 - a name of ours
    return {row["name"] for row in rows}


# A sequence that belongs to a column has its table's owner.
_OWNERS: Final = """
select kind, name, schema, bare, rolname as owner from (
    select 1, 'schema', quote_ident(nspname), nspname::text, '', nspowner from pg_namespace where nspname = any($1)
    union all
    select 2, 'table', format('%I.%I', nspname, relname), nspname, relname, relowner
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where nspname = any($1) and relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not exists (
        select from pg_depend where objid = pg_class.oid and classid = 'pg_class'::regclass and deptype in ('a', 'i')
            and refclassid = 'pg_class'::regclass
    )
    union all
    select 3, 'routine', pg_proc.oid::regprocedure::text, nspname, '', proowner
    from pg_proc join pg_namespace on pg_namespace.oid = pronamespace where nspname = any($1)
) as things (position, kind, name, schema, bare, owner) join pg_roles on pg_roles.oid = owner
where rolname <> $2
order by position, name
"""


async def _ensure_policies(connection: Connection, services: Iterable[str]) -> list[str]:
    """Hide from each service the items of leased work that are not its own."""
    wanted = {_policy(name): name for name in services if RIGHTS[name].queues}
    found = {row["polname"] for row in await connection.fetch(_POLICIES)}
    for name in found - wanted.keys():
        await connection.execute(f'drop policy "{name}" on work.items')
    for name in wanted.keys() - found:
        queues = ", ".join(f"'{queue}'" for queue in RIGHTS[wanted[name]].queues)
        to = role_name(wanted[name])
        await connection.execute(f'create policy "{name}" on work.items to {to} using (queue in ({queues}))')
    if not await connection.fetchval("select relrowsecurity from pg_class where oid = 'work.items'::regclass"):
        await connection.execute("alter table work.items enable row level security")
    return ["table work.items: each service sees its own queues"] if found != wanted.keys() else []


_POLICIES: Final = "select polname from pg_policy where polrelid = 'work.items'::regclass"


def _policy(service: str) -> str:
    """Name a service's policy so that another set of queues has another name."""
    text = " ".join(RIGHTS[service].queues)
    return f"{service} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


async def _exists(connection: Connection, role: str) -> bool:
    return bool(await connection.fetchval("select true from pg_roles where rolname = $1", role))


async def _ensure_passwords(connection: Connection, dsn: SecretStr, passwords: Mapping[str, SecretStr]) -> list[str]:
    async with connection.transaction():
        await connection.execute(MIGRATION_LOCK)
        names = [(role_name(service), password) for service, password in passwords.items()]
        return [line for name, one in names for line in await ensure_password(connection, dsn, name, one)]
