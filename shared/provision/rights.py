"""The least rights of each service in the database, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

READER: Final = "penstock_reader"
"""The role of external tools that read the views of schema `api`."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Rights of `penstock_<service>` in addition to reading and writing rows of its own schema."""

    queues: tuple[str, ...] = ()
    """Queues of leased work whose items it adds and claims; row security hides all others."""
    reads: tuple[str, ...] = ()
    """Views of schema `api` that it reads."""
    reads_tables_of: tuple[str, ...] = ()
    """Services whose run-time tables (`makes_tables`) it reads through their views."""
    makes_tables: str = ""
    """The table that lists the tables that it creates at run time in its schema, with views in schema `api`."""
    ends_readers: bool = False
    """Whether it calls `limits.end_overdue_readers`."""


RIGHTS: Final[Mapping[str, Rights]] = {
    # It ends overdue readers because it handles neither clients nor content, and without it nothing else works either.
    "ingest": Rights(queues=("sweep",), ends_readers=True),
    "hasher": Rights(queues=("digest",)),
    "etl": Rights(
        queues=("etl.files", "etl.loads", "etl.exports"), reads=("digest_history",), makes_tables="etl.datasets"
    ),
    "ingress": Rights(
        reads=("datasets", "digest_history", "digests", "loads", "objects", "rejects", "sweeps", "timeline", "work"),
        reads_tables_of=("etl",),
    ),
}
"""Rights by service."""


def role_name(service: str) -> str:
    """Return the name of a service's database role."""
    return f"penstock_{service}"


def schemas() -> tuple[str, ...]:
    """Return all schemas of Penstock: the shared ones, and one per service."""
    return ("api", "work", "limits", *RIGHTS)


@dataclass(frozen=True, slots=True)
class Restricted:
    """A family of functions that PUBLIC may execute by default; the regex `names` matches them in any schema."""

    names: str
    why: str
    """What they would let any role do."""
    services: bool = False
    """Whether services and the owners of schemas and database need them."""


RESTRICTED: Final = (
    # Not the unlock functions: they release only the session's own locks, and asyncpg's pool calls one at each release.
    Restricted("^pg_(try_)?advisory_(xact_)?lock", "hold the locks that order what services do", services=True),
    Restricted("^pg_notify$", "wake services, as the statement NOTIFY does, which cannot be revoked", services=True),
    Restricted("^(lo_.*|loread|lowrite)$", "store large objects, which no quota counts"),
    Restricted("^pg_logical_emit_message$", "write to the write-ahead log without a limit"),
    Restricted("^(txid_current|pg_current_xact_id)$", "use up transaction ids"),
    Restricted("^pg_export_snapshot$", "keep snapshots as files"),
    Restricted(
        "^((query|cursor|table|schema|database)_to_xml.*|ts_stat|ts_rewrite)$",
        "run text as a statement with the rights of a reader of a view that calls them",
    ),
    Restricted("^(dblink.*|pg_file_.*|pg_prewarm|autoprewarm.*)$", "reach files and other servers, as extensions do"),
)
"""Functions that set-up revokes from PUBLIC."""

LANGUAGES: Final = ("sql", "plpgsql")
"""Languages reserved for the owner: a function in a view runs with the rights of the view's reader."""
