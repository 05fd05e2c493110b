"""Set up the database: an owner role, a role per service, migrations, and the least rights."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Final

import asyncpg
import stamina
from pydantic import SecretStr

from shared.environment import ROLE_PASSWORD
from shared.manifest import Manifest, Manifests
from shared.postgres import CONNECT_SECONDS, LOCK_SECONDS, MIGRATION_LOCK, OWNER, Connection, apply_migrations
from shared.provision import grants
from shared.provision.limits import ensure_limits
from shared.provision.rights import READER, role_name, schemas
from shared.provision.roles import Role, connect, ensure_password, ensure_role, lock_role
from shared.work import MIGRATIONS

Services = Mapping[str, Manifest]
"""The services with a role of their own, by name."""

MAX_ATTEMPTS: Final = 10
"""Each waits `LOCK_SECONDS` for locks; before the next one, set-up ends readers that hold locks longer."""


async def ensure_database(dsn: SecretStr, manifests: Manifests, passwords: Mapping[str, SecretStr]) -> list[str]:
    """Create the role of each service with a password, migrate as the owner, and set all rights; return the changes.

    A database created by a single user is converted in place. A service without a password has no role and uses the
    user of the DSN. If the user may not create roles, return one line that says so.
    """
    services = manifests.with_role
    known = {name: one for name in services if (one := passwords.get(name, SecretStr(""))).get_secret_value()}
    busy = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
    connection = await connect(dsn)
    try:
        async for attempt in stamina.retry_context(on=busy, attempts=MAX_ATTEMPTS, timeout=None, wait_max=1):
            with attempt:
                if attempt.num > 1:
                    await connection.execute(_END_READERS, READER, timedelta(seconds=LOCK_SECONDS))
                changed = await _ensure(connection, services, known)
        return changed + await _ensure_passwords(connection, dsn, known)
    except asyncpg.InsufficientPrivilegeError as error:
        return [f"database roles: {error}; services use the user of PENSTOCK_POSTGRES_DSN, see docs/operations.md"]
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


# The service that otherwise ends overdue readers may not be running yet.
_END_READERS: Final = """
select pg_terminate_backend(pid) from pg_stat_activity
where usename = $1 and xact_start < clock_timestamp() - $2::interval
"""


async def _ensure(connection: Connection, services: Services, known: Collection[str]) -> list[str]:
    """Set up the roles of `services`; those in `known` have a password, the others lose their login."""
    async with connection.transaction():
        await connection.execute(MIGRATION_LOCK)
        await connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
        return [
            *[line for name in services if name not in known for line in await _lock(connection, name)],
            *(await _ensure_owned(connection, services, known) if known else []),
            *await ensure_rights(connection, services),
        ]


async def _lock(connection: Connection, service: str) -> list[str]:
    return await lock_role(connection, role_name(service), ROLE_PASSWORD + service.upper())


async def _ensure_owned(connection: Connection, services: Services, known: Collection[str]) -> list[str]:
    changed = []
    for name in known:
        changed += await ensure_role(connection, Role(role_name(name)))
    changed += await _ensure_owner(connection, services)
    changed += await _ensure_ownership(connection, services)
    packages = {name: one.migrations for name, one in services.items() if one.migrations}
    for schema, package in {"work": MIGRATIONS, **packages}.items():
        applied = await apply_migrations(connection, schema, package)
        changed += [f"schema {schema}: migration {name} applied" for name in applied]
    if await _exists(connection, READER):
        changed += await ensure_limits(connection)
    return changed + await _ensure_policies(connection, {name: services[name].queues for name in known})


async def ensure_rights(connection: Connection, services: Services) -> list[str]:
    """Grant missing rights and revoke excess ones; return the changes."""
    catalog = await grants.read(connection, services)
    missing, excess = grants.missing(catalog), grants.excess(catalog)
    statements = [grants.statement(right, grant=True) for right in missing]
    statements += [grants.statement(right, grant=False) for right in excess]
    if statements:
        await connection.execute("; ".join(statements))
    return grants.summary(missing, "granted") + grants.summary(excess, "revoked")


async def _ensure_owner(connection: Connection, services: Iterable[str]) -> list[str]:
    """Create the owner role; its membership in the reading role lets it end sessions of that role only."""
    changed = []
    if not await _exists(connection, OWNER):
        await connection.execute(f"create role {OWNER} nologin")
        changed = [f"role {OWNER}: created"]
    for name in await connection.fetch(_MEMBERSHIPS, READER, OWNER, [OWNER, *map(role_name, services)]):
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


async def _ensure_ownership(connection: Connection, services: Services) -> list[str]:
    """Make OWNER own all objects in Penstock's schemas, except those that a service created at run time."""
    created = {}
    for name, manifest in services.items():
        if manifest.makes_tables and await _exists(connection, role_name(name)):
            created[name] = await _names(connection, manifest.makes_tables)
    rows = await connection.fetch(_OWNERS, [*schemas(services)], OWNER)
    owners = [(row, _owner_of(row, created)) for row in rows]
    statements = [f"alter {row['kind']} {row['name']} owner to {to}" for row, to in owners if row["owner"] != to]
    if statements:
        await connection.execute("; ".join(statements))
    return [f"role {OWNER}: owns {len(statements)} more schemas, tables and views"] if statements else []


def _owner_of(row: asyncpg.Record, created: Mapping[str, set[str]]) -> str:
    """Return the role that should own a schema, relation or routine; `created` has relation names by service."""
    makers = {role_name(service) for service in created}
    creators = (one for one, names in created.items() if row["schema"] in {"api", one} and row["unquoted"] in names)
    owner: str = row["owner"]
    return next(map(role_name, creators), owner if owner in makers else OWNER)


async def _names(connection: Connection, table: str) -> set[str]:
    if await connection.fetchval("select to_regclass($1)", table) is None:
        return set()
    rows = await connection.fetch(f"select name from {table}")  # noqa: S608 - a fixed name
    return {row["name"] for row in rows}


# A sequence that belongs to a column has its table's owner.
_OWNERS: Final = """
select kind, name, schema, unquoted, rolname as owner from (
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
) as objects (position, kind, name, schema, unquoted, owner) join pg_roles on pg_roles.oid = owner
where rolname <> $2
order by position, name
"""


async def _ensure_policies(connection: Connection, queues_of: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Restrict each service to leased work items of its own queues."""
    desired = {_policy(name, queues): name for name, queues in queues_of.items() if queues}
    found = {row["polname"] for row in await connection.fetch(_POLICIES)}
    for name in found - desired.keys():
        await connection.execute(f'drop policy "{name}" on work.items')
    for name in desired.keys() - found:
        queues = ", ".join(f"'{queue}'" for queue in queues_of[desired[name]])
        to = role_name(desired[name])
        await connection.execute(f'create policy "{name}" on work.items to {to} using (queue in ({queues}))')
    if not await connection.fetchval("select relrowsecurity from pg_class where oid = 'work.items'::regclass"):
        await connection.execute("alter table work.items enable row level security")
    return ["table work.items: each service sees its own queues"] if found != desired.keys() else []


_POLICIES: Final = "select polname from pg_policy where polrelid = 'work.items'::regclass"


def _policy(service: str, queues: Iterable[str]) -> str:
    """Return the name of a service's policy, which contains a hash of its queues."""
    text = " ".join(queues)
    return f"{service} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


async def _exists(connection: Connection, role: str) -> bool:
    return bool(await connection.fetchval("select true from pg_roles where rolname = $1", role))


async def _ensure_passwords(connection: Connection, dsn: SecretStr, passwords: Mapping[str, SecretStr]) -> list[str]:
    async with connection.transaction():
        await connection.execute(MIGRATION_LOCK)
        names = [(role_name(service), password) for service, password in passwords.items()]
        return [line for name, one in names for line in await ensure_password(connection, dsn, name, one)]
