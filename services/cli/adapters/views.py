"""Queries on the views of schema `api`."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from services.cli.adapters.database import open_database
from services.cli.adapters.errors import translate_errors
from services.cli.core.address import Address
from services.cli.settings import CliSettings

SERVER: Final = "Postgres"

_DIGESTS = """
SELECT DISTINCT ON (bucket, key) d.*
FROM api.digest_history d JOIN unnest($1::text[], $2::text[]) AS addresses (bucket, key) USING (bucket, key)
ORDER BY bucket, key, d.current DESC, d.revision DESC
"""
"""The row of the current version, or the last row of a removed object."""
_OBJECTS = "SELECT etag FROM api.objects WHERE bucket = $1 AND key = $2 AND state = 'stored'"
_QUEUES = "SELECT queue, state::text, count(*) AS items FROM api.work GROUP BY 1, 2"
_LOSS = """
SELECT count(*) AS sweeps, max(finished_at) AS last_finished_at, coalesce(sum(listed), 0)::bigint AS listed,
       coalesce(sum(missed), 0)::bigint AS missed, coalesce(sum(vanished), 0)::bigint AS vanished
FROM api.sweeps
"""
_LAST_SWEEP = "SELECT * FROM api.sweeps ORDER BY started_at DESC LIMIT 1"


async def digest_rows(settings: CliSettings, addresses: Sequence[Address]) -> dict[Address, dict[str, Any]]:
    """Return the hasher's last row of each object, removed ones included."""
    buckets, keys = [one.bucket for one in addresses], [one.key for one in addresses]
    async with open_database(settings) as connection:
        with translate_errors(SERVER):
            rows = await connection.fetch(_DIGESTS, buckets, keys)
    return {Address(row["bucket"], row["key"]): dict(row) for row in rows}


async def known_etag(settings: CliSettings, address: Address) -> str | None:
    """Return the ETag that ingest recorded; None if the object is removed or was never seen."""
    async with open_database(settings) as connection:
        with translate_errors(SERVER):
            etag: str | None = await connection.fetchval(_OBJECTS, address.bucket, address.key)
    return etag


async def queues(settings: CliSettings) -> dict[str, dict[str, int]]:
    """Return the number of items by queue and state."""
    async with open_database(settings) as connection:
        with translate_errors(SERVER):
            rows = await connection.fetch(_QUEUES)
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        counts[row["queue"]][row["state"]] = row["items"]
    return dict(counts)


async def notification_loss(settings: CliSettings) -> dict[str, Any]:
    """Return the totals of all sweeps, and the last sweep."""
    async with open_database(settings) as connection:
        with translate_errors(SERVER):
            total = await connection.fetchrow(_LOSS)
            last = await connection.fetchrow(_LAST_SWEEP)
    return dict(total) | {"last": None if last is None else dict(last)}
