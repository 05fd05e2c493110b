"""The questions the console asks of schema `api`."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from services.cli.adapters.database import open_database
from services.cli.adapters.trouble import reaching
from services.cli.core.address import Address
from services.cli.settings import CliSettings

WHAT = "Postgres"

_DIGESTS = """
SELECT DISTINCT ON (bucket, key) d.*
FROM api.digest_history d JOIN unnest($1::text[], $2::text[]) AS wanted (bucket, key) USING (bucket, key)
ORDER BY bucket, key, d.current DESC, d.revision DESC
"""
"""The row of the object that is there, or the last one of an object that was."""
_OBJECTS = "SELECT etag FROM api.objects WHERE bucket = $1 AND key = $2 AND state = 'stored'"
_QUEUES = "SELECT queue, state::text, count(*) AS items FROM api.work GROUP BY 1, 2"
_LOSS = """
SELECT count(*) AS sweeps, max(finished_at) AS last_finished_at, coalesce(sum(listed), 0)::bigint AS listed,
       coalesce(sum(missed), 0)::bigint AS missed, coalesce(sum(vanished), 0)::bigint AS vanished
FROM api.sweeps
"""
_LAST_SWEEP = "SELECT * FROM api.sweeps ORDER BY started_at DESC LIMIT 1"


async def digest_rows(settings: CliSettings, addresses: Sequence[Address]) -> dict[Address, dict[str, Any]]:
    """Return the hasher's last row of each of these objects, also of those that were removed since."""
    buckets, keys = [one.bucket for one in addresses], [one.key for one in addresses]
    async with open_database(settings) as connection:
        with reaching(WHAT):
            rows = await connection.fetch(_DIGESTS, buckets, keys)
    return {Address(row["bucket"], row["key"]): dict(row) for row in rows}


async def known_etag(settings: CliSettings, address: Address) -> str | None:
    """Return the ETag that ingest knows the object by; None when it is removed or was never seen."""
    async with open_database(settings) as connection:
        with reaching(WHAT):
            etag: str | None = await connection.fetchval(_OBJECTS, address.bucket, address.key)
    return etag


async def queues(settings: CliSettings) -> dict[str, dict[str, int]]:
    """Return how many items each queue has in each state."""
    async with open_database(settings) as connection:
        with reaching(WHAT):
            rows = await connection.fetch(_QUEUES)
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        counts[row["queue"]][row["state"]] = row["items"]
    return dict(counts)


async def notification_loss(settings: CliSettings) -> dict[str, Any]:
    """Return what all sweeps found, and the last of them."""
    async with open_database(settings) as connection:
        with reaching(WHAT):
            total = await connection.fetchrow(_LOSS)
            last = await connection.fetchrow(_LAST_SWEEP)
    return dict(total) | {"last": None if last is None else dict(last)}
