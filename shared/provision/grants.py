"""Rights in the database as sets: those that are, those that should be, and the statements between them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.postgres import OWNER, Connection
from shared.provision.rights import LANGUAGES, READER, RESTRICTED, RIGHTS, Restricted, Rights, role_name, schemas

PUBLIC: Final = "PUBLIC"
OTHER_DATABASES: Final = ("postgres", "template1")
"""Those of every server; only its superuser has business there."""
_ROWS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")


class Right(NamedTuple):
    """`grantee` has `privilege` on an object; both names are quoted as SQL wants them."""

    kind: str
    name: str
    grantee: str
    privilege: str


@dataclass(frozen=True, slots=True)
class DatabaseObject:
    """An object of the database: its quoted name, and bare names of its schema, of itself and of its owner."""

    kind: str
    name: str
    schema: str
    bare: str
    owner: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the database holds, which of Penstock's roles there are, and what they and PUBLIC have been granted."""

    database: str
    user: str
    database_owner: str
    """Empty where it is a superuser, who needs no grant."""
    is_superuser: bool
    """Of the session: only a superuser changes what PUBLIC may do with what came with the server."""
    roles: frozenset[str]
    objects: tuple[DatabaseObject, ...]
    """Those whose rights the session may change."""
    rights: frozenset[Right]

    def services(self, wanted: Callable[[Rights], object] = bool) -> list[str]:
        """Return the roles of the services whose rights are `wanted`."""
        return [role for name, rights in RIGHTS.items() if (role := role_name(name)) in self.roles and wanted(rights)]


async def read(connection: Connection) -> Catalog:
    """Read what Penstock's rights are about."""
    ours = [READER, OWNER, *map(role_name, RIGHTS)]
    session = await connection.fetchrow(_SESSION, ours)
    assert session is not None, "a statement without a table has one row"  # noqa: S101
    with_server = [[one.names for one in RESTRICTED], [*OTHER_DATABASES], [*LANGUAGES]]
    names = with_server if session["is_superuser"] else [[], [], []]
    rows = await connection.fetch(_RIGHTS, [*schemas()], *names, ours)
    defaults = [
        DatabaseObject("DEFAULTS", role, "api", role, role) for role in {session["user"], *_makers(session["own"])}
    ]
    things = {
        DatabaseObject(*(row[name] for name in DatabaseObject.__slots__)) for row in rows if row["kind"] != "DEFAULTS"
    }
    return Catalog(
        database=session["database"],
        user=session["user"],
        database_owner=session["database_owner"],
        is_superuser=session["is_superuser"],
        roles=frozenset(session["roles"]),
        objects=(*things, *defaults),
        rights=frozenset(Right(*(row[name] for name in Right._fields)) for row in rows if row["privilege"]),
    )


def _makers(roles: Iterable[str]) -> set[str]:
    makers = {OWNER, *(role_name(name) for name, rights in RIGHTS.items() if rights.makes_tables)}
    return makers & set(roles)


def desired(catalog: Catalog) -> frozenset[Right]:
    """Return the rights that should be, on what there is, of the roles that there are."""
    there = {*catalog.roles, PUBLIC, catalog.database_owner} - {""}
    return frozenset(
        Right(thing.kind, thing.name, grantee, privilege)
        for thing in catalog.objects
        for grantees, privileges in _GRANTS[thing.kind](thing, catalog)
        for grantee in grantees
        for privilege in privileges
        if grantee in there and (grantee != thing.owner or thing.kind == "DEFAULTS")
    )


def missing(catalog: Catalog) -> list[Right]:
    """Return the rights to be granted."""
    return sorted(desired(catalog) - catalog.rights)


def excess(catalog: Catalog) -> list[Right]:
    """Return the rights to be revoked."""
    return sorted(catalog.rights - desired(catalog))


def statement(right: Right, *, grant: bool) -> str:
    """Write the statement that grants or revokes one right."""
    verb, preposition = ("GRANT", "TO") if grant else ("REVOKE", "FROM")
    if right.kind == "DEFAULTS":
        what = f"ALTER DEFAULT PRIVILEGES FOR ROLE {right.name} IN SCHEMA api {verb} {right.privilege} ON TABLES"
    else:
        what = f"{verb} {right.privilege} ON {right.kind} {right.name}"
    return f"{what} {preposition} {right.grantee}"


def summary(rights: Iterable[Right], what: str) -> list[str]:
    """Count rights by grantee, a line for each."""
    counts = sorted(Counter(right.grantee for right in rights).items())
    return [f"{'everybody' if who == PUBLIC else f'role {who}'}: {what} {count} rights" for who, count in counts]


Grants = Iterator[tuple[list[str], tuple[str, ...]]]


def _on_database(thing: DatabaseObject, catalog: Catalog) -> Grants:
    if thing.bare == catalog.database:
        yield [READER, *catalog.services()], ("CONNECT",)
        yield [OWNER], ("CREATE",)
        # rows to be loaded are compared in a temporary table
        yield catalog.services(lambda rights: rights.makes_tables), ("TEMPORARY",)


def _on_schema(thing: DatabaseObject, catalog: Catalog) -> Grants:
    makers = catalog.services(lambda rights: rights.makes_tables)
    match thing.schema:
        case "public":
            yield [PUBLIC], ("USAGE",)
        case "api":
            yield [READER, *catalog.services()], ("USAGE",)
            # for views of its own: it can neither replace nor drop another's, whose name is taken
            yield makers, ("CREATE",)
        case "work":
            yield catalog.services(lambda rights: rights.queues), ("USAGE",)
        case "limits":
            yield catalog.services(lambda rights: rights.ends_readers), ("USAGE",)
        case schema:
            own = role_name(schema)
            yield [own], ("USAGE", "CREATE") if own in makers else ("USAGE",)


def _on_table(thing: DatabaseObject, catalog: Catalog) -> Grants:
    privileges = ("SELECT",) if thing.bare == "migrations" else _ROWS
    match thing.schema:
        case "api":
            yield [READER], ("SELECT",)
            makers = {role_name(name): name for name in RIGHTS}
            of = makers.get(thing.owner)
            yield catalog.services(lambda has: thing.bare in has.reads or of in has.reads_tables_of), ("SELECT",)
        case "work":
            yield catalog.services(lambda rights: rights.queues), privileges
        case schema:
            yield [role_name(schema)], privileges


def _on_sequence(thing: DatabaseObject, catalog: Catalog) -> Grants:
    if thing.schema == "work":
        yield catalog.services(lambda rights: rights.queues), ("USAGE",)
    else:
        yield [role_name(thing.schema)], ("USAGE", "SELECT")


def _on_routine(thing: DatabaseObject, catalog: Catalog) -> Grants:
    match thing.schema:
        case "api":
            yield [PUBLIC], ("EXECUTE",)
        case "limits":
            yield catalog.services(lambda rights: rights.ends_readers), ("EXECUTE",)
        case schema if schema not in schemas():
            users = [OWNER, catalog.database_owner, *catalog.services()]
            yield users if _family(thing.bare).services else [], ("EXECUTE",)


def _family(name: str) -> Restricted:
    return next(one for one in RESTRICTED if re.search(one.names, name))


def _on_language(_thing: DatabaseObject, catalog: Catalog) -> Grants:
    yield [OWNER, catalog.database_owner], ("USAGE",)


def _on_defaults(thing: DatabaseObject, catalog: Catalog) -> Grants:
    """Let the views that a role makes later be read at once, those of an operator who runs a service by hand too."""
    yield [READER], ("SELECT",)
    by_hand = thing.owner == catalog.user
    of = {role_name(name): name for name in RIGHTS}.get(thing.owner)
    yield catalog.services(lambda has: has.reads_tables_of and (by_hand or of in has.reads_tables_of)), ("SELECT",)


_GRANTS: Final[Mapping[str, Callable[[DatabaseObject, Catalog], Grants]]] = {
    "DATABASE": _on_database,
    "SCHEMA": _on_schema,
    "TABLE": _on_table,
    "SEQUENCE": _on_sequence,
    "ROUTINE": _on_routine,
    "LANGUAGE": _on_language,
    "DEFAULTS": _on_defaults,
}

_SESSION: Final = """
SELECT current_database() AS database, quote_ident(current_user) AS user,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser,
       (SELECT CASE WHEN rolsuper THEN '' ELSE quote_ident(rolname) END
        FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE datname = current_database()) AS database_owner,
       ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1)) AS roles,
       ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1) AND pg_has_role(oid, 'member')) AS own
"""

# $1 schemas, $2 patterns of functions, $3 other databases, $4 languages, $5 roles
_RIGHTS: Final = """
WITH things (kind, name, schema, bare, owner, acl) AS (
    SELECT 'DATABASE', quote_ident(datname), '', datname::text, datdba, coalesce(datacl, acldefault('d', datdba))
    FROM pg_database WHERE datname = current_database() OR datname = ANY ($3)
    UNION ALL
    SELECT 'SCHEMA', quote_ident(nspname), nspname, nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner))
    FROM pg_namespace WHERE nspname = ANY ($1) OR nspname = 'public'
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, format('%I.%I', nspname, relname), nspname, relname,
           relowner, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = ANY ($1) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'ROUTINE', pg_proc.oid::regprocedure::text, nspname, proname, proowner,
           coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE prokind <> 'a' AND (nspname = ANY ($1) OR proname ~ ANY ($2))
    UNION ALL
    SELECT 'LANGUAGE', quote_ident(lanname), '', lanname, lanowner, coalesce(lanacl, acldefault('l', lanowner))
    FROM pg_language WHERE lanname = ANY ($4)
    UNION ALL
    SELECT 'DEFAULTS', defaclrole::regrole::text, 'api', '', defaclrole, defaclacl
    FROM pg_default_acl WHERE defaclnamespace = to_regnamespace('api') AND defaclobjtype = 'r'
)
SELECT kind, name, schema, bare, owners.rolname AS owner,
       CASE WHEN granted.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(grantees.rolname) END AS grantee,
       granted.privilege_type AS privilege
FROM things
JOIN pg_roles AS owners ON owners.oid = owner AND pg_has_role(owner, 'member')
LEFT JOIN (LATERAL aclexplode(acl) AS granted LEFT JOIN pg_roles AS grantees ON grantees.oid = granted.grantee)
    ON granted.grantee <> owner AND (
        granted.grantee = 0 OR grantees.rolname = ANY ($5) OR kind IN ('ROUTINE', 'LANGUAGE') AND NOT grantees.rolsuper
            AND grantees.oid = (SELECT datdba FROM pg_database WHERE datname = current_database())
    )
"""
