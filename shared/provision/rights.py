"""Names of database roles and schemas, and what set-up revokes from PUBLIC."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

READER: Final = "penstock_reader"
"""The role of external tools that read the views of schema `api`."""


def role_name(service: str) -> str:
    """Return the name of a service's database role."""
    return f"penstock_{service}"


def schemas(services: Iterable[str]) -> tuple[str, ...]:
    """Return all schemas of Penstock: the shared ones, and one per service."""
    return ("api", "work", "limits", *services)


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
