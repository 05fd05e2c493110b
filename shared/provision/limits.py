"""Resource limits of the reading role, enforced from outside its sessions, which could change their own settings."""

import hashlib
from dataclasses import dataclass
from typing import Final

from shared.postgres import OWNER, Connection
from shared.provision.rights import READER


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one session, in Postgres notation of intervals and sizes."""

    transaction: str = "5min"
    """The longest transaction, including a single statement."""
    idle_in_transaction: str = "1min"
    idle: str = "10min"
    temporary_files: str = "1GB"
    """Disk space for sorting and hashing; only a superuser can change it, so it needs no enforcement."""


READER_LIMITS: Final = Limits()


async def ensure_limits(connection: Connection, limits: Limits = READER_LIMITS) -> list[str]:
    """Create `limits.end_overdue_readers()`, which ends sessions of the reading role that exceed `limits`.

    The function runs as the owner, a member of the reading role only, so it can see and end only those sessions. Both
    roles must exist, and the session must be allowed to act as the owner.
    """
    text = _function(limits)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    if await connection.fetchval(_CHECKSUM) == checksum:
        return []
    await connection.execute(f"create schema if not exists limits authorization {OWNER}; {text}")
    await connection.execute(f"comment on function limits.end_overdue_readers() is '{checksum}'")
    return ["function limits.end_overdue_readers: created"]


_CHECKSUM: Final = "select obj_description(to_regprocedure('limits.end_overdue_readers()'), 'pg_proc')"


def _function(limits: Limits) -> str:
    return f"""
        create or replace function limits.end_overdue_readers() returns bigint
        language sql volatile security definer set search_path = pg_catalog, pg_temp as
        $$
        select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
        where usename = '{READER}' and backend_type = 'client backend' and (
            xact_start < clock_timestamp() - interval '{limits.transaction}'
            or state like 'idle in transaction%'
                and state_change < clock_timestamp() - interval '{limits.idle_in_transaction}'
            or state = 'idle' and state_change < clock_timestamp() - interval '{limits.idle}'
        )
        $$;
        alter function limits.end_overdue_readers() owner to {OWNER};
    """  # noqa: S608 - fixed intervals and names
