"""Database rights as sets: current and desired ones, and the statements that make them equal."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.manifest import Manifest
from shared.postgres import OWNER, Connection
from shared.provision.rights import LANGUAGES, READER, RESTRICTED, Restricted, role_name, schemas

PUBLIC: Final = "PUBLIC"
OTHER_DATABASES: Final = ("postgres", "template1")
"""Databases of every server that only its superuser needs."""
_ROWS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")


class Right(NamedTuple):
    """`grantee` has `privilege` on an object; both names are quoted for SQL."""

    kind: str
    name: str
    grantee: str
    privilege: str


@dataclass(frozen=True, slots=True)
class DatabaseObject:
    """A database object: its quoted name, and the unquoted names of its schema, itself and its owner."""

    kind: str
    name: str
    schema: str
    unquoted: str
    owner: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """The objects of the database, the existing roles of Penstock, and the rights of these roles and PUBLIC."""

    database: str
    user: str
    database_owner: str
    """Empty for a superuser, who needs no grants."""
    is_superuser: bool
    """Whether the session is a superuser's, who alone may change PUBLIC's rights on the server's own objects."""
    roles: frozenset[str]
    objects: tuple[DatabaseObject, ...]
    """Objects whose rights the session may change."""
    rights: frozenset[Right]
    manifests: Mapping[str, Manifest]
    """The services with a role of their own."""

    def services(self, condition: Callable[[Manifest], object] = bool) -> list[str]:
        """Return the existing roles of services whose manifests meet `condition`."""
        granted = [role_name(name) for name, manifest in self.manifests.items() if condition(manifest)]
        return [role for role in granted if role in self.roles]

    def is_made_by_service(self, obj: "DatabaseObject") -> bool:
        """Return whether a service made the object at run time, and so owns it."""
        return obj.owner in map(role_name, self.manifests)


async def read(connection: Connection, manifests: Mapping[str, Manifest]) -> Catalog:
    """Read the catalog of the database; `manifests` are those of the services with a role of their own."""
    ours = [READER, OWNER, *map(role_name, manifests)]
    session = await connection.fetchrow(_SESSION, ours)
    assert session is not None, "a SELECT without FROM returns one row"  # noqa: S101
    with_server = [[one.names for one in RESTRICTED], [*OTHER_DATABASES], [*LANGUAGES]]
    names = with_server if session["is_superuser"] else [[], [], []]
    rows = await connection.fetch(_RIGHTS, [*schemas(manifests)], *names, ours)
    makers = {session["user"], *_makers(session["own"], manifests)}
    defaults = [DatabaseObject("DEFAULTS", role, "api", role, role) for role in makers]
    objects = {
        DatabaseObject(*(row[name] for name in DatabaseObject.__slots__)) for row in rows if row["kind"] != "DEFAULTS"
    }
    return Catalog(
        database=session["database"],
        user=session["user"],
        database_owner=session["database_owner"],
        is_superuser=session["is_superuser"],
        roles=frozenset(session["roles"]),
        objects=(*objects, *defaults),
        rights=frozenset(Right(*(row[name] for name in Right._fields)) for row in rows if row["privilege"]),
        manifests=manifests,
    )


def _makers(roles: Iterable[str], manifests: Mapping[str, Manifest]) -> set[str]:
    makers = {OWNER, *(role_name(name) for name, one in manifests.items() if one.makes_tables)}
    return makers & set(roles)


def desired(catalog: Catalog) -> frozenset[Right]:
    """Return the desired rights of existing roles on existing objects."""
    existing = {*catalog.roles, PUBLIC, catalog.database_owner} - {""}
    return frozenset(
        Right(obj.kind, obj.name, grantee, privilege)
        for obj in catalog.objects
        for grantees, privileges in _GRANTS[obj.kind](obj, catalog)
        for grantee in grantees
        for privilege in privileges
        if grantee in existing and (grantee != obj.owner or obj.kind == "DEFAULTS")
    )


def missing(catalog: Catalog) -> list[Right]:
    """Return the rights to grant."""
    return sorted(desired(catalog) - catalog.rights)


def excess(catalog: Catalog) -> list[Right]:
    """Return the rights to revoke."""
    return sorted(catalog.rights - desired(catalog))


def statement(right: Right, *, grant: bool) -> str:
    """Return the SQL statement that grants or revokes one right."""
    verb, preposition = ("GRANT", "TO") if grant else ("REVOKE", "FROM")
    if right.kind == "DEFAULTS":
        what = f"ALTER DEFAULT PRIVILEGES FOR ROLE {right.name} IN SCHEMA api {verb} {right.privilege} ON TABLES"
    else:
        what = f"{verb} {right.privilege} ON {right.kind} {right.name}"
    return f"{what} {preposition} {right.grantee}"


def summary(rights: Iterable[Right], action: str) -> list[str]:
    """Return a line with the number of rights for each grantee."""
    counts = sorted(Counter(right.grantee for right in rights).items())
    return [f"{'PUBLIC' if role == PUBLIC else f'role {role}'}: {action} {count} rights" for role, count in counts]


Grants = Iterator[tuple[list[str], tuple[str, ...]]]


def _on_database(obj: DatabaseObject, catalog: Catalog) -> Grants:
    if obj.unquoted == catalog.database:
        yield [READER, *catalog.services()], ("CONNECT",)
        yield [OWNER], ("CREATE",)
        # loads compare rows in a temporary table
        yield catalog.services(lambda rights: rights.makes_tables), ("TEMPORARY",)


def _on_schema(obj: DatabaseObject, catalog: Catalog) -> Grants:
    makers = catalog.services(lambda rights: rights.makes_tables)
    match obj.schema:
        case "public":
            yield [PUBLIC], ("USAGE",)
        case "api":
            yield [READER, *catalog.services()], ("USAGE",)
            # to create its own views; it can neither replace nor drop those of others
            yield makers, ("CREATE",)
        case "work":
            yield catalog.services(lambda rights: rights.queues), ("USAGE",)
        case "limits":
            yield catalog.services(lambda rights: rights.ends_readers), ("USAGE",)
        case schema:
            own = role_name(schema)
            yield [own], ("USAGE", "CREATE") if own in makers else ("USAGE",)


def _on_table(obj: DatabaseObject, catalog: Catalog) -> Grants:
    privileges = ("SELECT",) if obj.unquoted == "migrations" else _ROWS
    match obj.schema:
        case "api":
            yield [READER], ("SELECT",)
            made = catalog.is_made_by_service(obj)
            yield (
                catalog.services(lambda one: obj.unquoted in one.reads or (made and one.reads_made_views)),
                ("SELECT",),
            )
        case "work":
            yield catalog.services(lambda rights: rights.queues), privileges
        case schema:
            yield [role_name(schema)], privileges


def _on_sequence(obj: DatabaseObject, catalog: Catalog) -> Grants:
    if obj.schema == "work":
        yield catalog.services(lambda rights: rights.queues), ("USAGE",)
    else:
        yield [role_name(obj.schema)], ("USAGE", "SELECT")


def _on_routine(obj: DatabaseObject, catalog: Catalog) -> Grants:
    match obj.schema:
        case "api":
            yield [PUBLIC], ("EXECUTE",)
        case "limits":
            yield catalog.services(lambda rights: rights.ends_readers), ("EXECUTE",)
        case schema if schema not in schemas(catalog.manifests):
            users = [OWNER, catalog.database_owner, *catalog.services()]
            yield users if _family(obj.unquoted).services else [], ("EXECUTE",)


def _family(name: str) -> Restricted:
    return next(one for one in RESTRICTED if re.search(one.names, name))


def _on_language(_obj: DatabaseObject, catalog: Catalog) -> Grants:
    yield [OWNER, catalog.database_owner], ("USAGE",)


def _on_defaults(obj: DatabaseObject, catalog: Catalog) -> Grants:
    """Make views that a role creates later readable at once, including an operator's who runs a service by hand."""
    yield [READER], ("SELECT",)
    made = obj.owner == catalog.user or catalog.is_made_by_service(obj)
    yield catalog.services(lambda one: made and one.reads_made_views), ("SELECT",)


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
WITH objects (kind, name, schema, unquoted, owner, acl) AS (
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
SELECT kind, name, schema, unquoted, owners.rolname AS owner,
       CASE WHEN granted.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(grantees.rolname) END AS grantee,
       granted.privilege_type AS privilege
FROM objects
JOIN pg_roles AS owners ON owners.oid = owner AND pg_has_role(owner, 'member')
LEFT JOIN (LATERAL aclexplode(acl) AS granted LEFT JOIN pg_roles AS grantees ON grantees.oid = granted.grantee)
    ON granted.grantee <> owner AND (
        granted.grantee = 0 OR grantees.rolname = ANY ($5) OR kind IN ('ROUTINE', 'LANGUAGE') AND NOT grantees.rolsuper
            AND grantees.oid = (SELECT datdba FROM pg_database WHERE datname = current_database())
    )
"""
