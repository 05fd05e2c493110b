"""What each service may do in the database: the least that it needs, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

READER: Final = "penstock_reader"
"""For tools that read: the views of schema `api` and nothing else."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What `penstock_<service>` may do, beside reading and writing the rows of the schema of its name."""

    queues: tuple[str, ...] = ()
    """Queues of leased work whose items it adds and claims; `work.items` hides all others from it."""
    reads: tuple[str, ...] = ()
    """Views of schema `api`."""
    reads_tables_of: tuple[str, ...] = ()
    """Services whose `makes_tables` it reads, through their views."""
    makes_tables: str = ""
    """The table that lists what it makes at run time and owns: tables in its schema, their views in schema `api`."""
    ends_readers: bool = False
    """Calls `limits.end_overdue_readers`."""


RIGHTS: Final[Mapping[str, Rights]] = {
    # It ends overdue readers: it meets no client and no content, and where it is down nothing else goes on either.
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
"""By service."""


def role_name(service: str) -> str:
    """Name a service's database role."""
    return f"penstock_{service}"


def schemas() -> tuple[str, ...]:
    """Return every schema of Penstock: those that are shared, and one for each service."""
    return ("api", "work", "limits", *RIGHTS)


@dataclass(frozen=True, slots=True)
class Restricted:
    """A family of functions that everybody may execute by default; `names` matches their names in any schema."""

    names: str
    why: str
    """What they would let anybody do."""
    services: bool = False
    """Whether services, and the owners of schemas and database, need them."""


RESTRICTED: Final = (
    # Not those that unlock: they release the session's own locks alone, and asyncpg's pool calls one at each release.
    Restricted("^pg_(try_)?advisory_(xact_)?lock", "hold the locks that order what services do", services=True),
    Restricted("^pg_notify$", "wake services, as the statement NOTIFY does, which cannot be revoked", services=True),
    Restricted("^(lo_.*|loread|lowrite)$", "store large objects, which no quota counts"),
    Restricted("^pg_logical_emit_message$", "write to the write-ahead log without a limit"),
    Restricted("^(txid_current|pg_current_xact_id)$", "use up transaction ids"),
    Restricted("^pg_export_snapshot$", "keep snapshots as files"),
    Restricted(
        "^((query|cursor|table|schema|database)_to_xml.*|ts_stat|ts_rewrite)$",
        "run a text as a statement of whoever reads a view that calls them",
    ),
    Restricted("^(dblink.*|pg_file_.*|pg_prewarm|autoprewarm.*)$", "reach files and other servers, as extensions do"),
)
"""Taken from PUBLIC by set-up."""

LANGUAGES: Final = ("sql", "plpgsql")
"""Only the owner makes functions: one in a view runs with the rights of whoever reads that view."""
