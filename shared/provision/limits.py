"""What a session of the reading role may take, enforced from outside: it can change every setting of its own."""

import hashlib
from dataclasses import dataclass
from typing import Final

from shared.postgres import OWNER, Connection
from shared.provision.rights import READER


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one session, as Postgres writes intervals and sizes."""

    transaction: str = "5min"
    """Of a transaction, that of a single statement too."""
    idle_in_transaction: str = "1min"
    idle: str = "10min"
    temporary_files: str = "1GB"
    """On disk, for sorting and hashing; only a superuser may change this one, so it needs no enforcing."""


READER_LIMITS: Final = Limits()


async def ensure_limits(connection: Connection, limits: Limits = READER_LIMITS) -> list[str]:
    """Make `limits.end_overdue_readers()`, which ends the sessions of the reading role that exceed `limits`.

    It runs as the owner, who is a member of the reading role and of no other: that is what lets it see and end
    those sessions, and no others. Needs both roles, and a session that may act as the owner.
    """
    text = _function(limits)
    mark = hashlib.sha256(text.encode()).hexdigest()
    if await connection.fetchval(_MARK) == mark:
        return []
    await connection.execute(f"create schema if not exists limits authorization {OWNER}; {text}")
    await connection.execute(f"comment on function limits.end_overdue_readers() is '{mark}'")
    return ["function limits.end_overdue_readers: made"]


_MARK: Final = "select obj_description(to_regprocedure('limits.end_overdue_readers()'), 'pg_proc')"


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
    """  # noqa: S608 - intervals and names of ours
