"""What the other services have recorded: the views of schema `api`, read and never written."""

from collections.abc import Sequence
from typing import Any, Final

from asyncpg import Record, UndefinedTableError

from services.ingress.adapters.postgres_pool import QUERY_SECONDS, acquire_within
from services.ingress.core.result_page import RecentObject
from services.ingress.core.upload_ids import upload_prefix
from services.ingress.core.upload_status import Upload
from shared.postgres import Pool

COUNT_SECONDS: Final = 10.0
MAX_LATEST_FACTS: Final = 1000
"""Number of latest facts that are searched for recent objects."""


class Views:
    """Questions to the views; every method raises an outage while Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def upload(self, bucket: str, id: str) -> Upload | None:  # noqa: A002 - the name in the API
        """Return what is recorded of the upload `id`: one question, answered from three primary keys."""
        folder = upload_prefix(id)
        rows = await self._ask(_UPLOAD, bucket, folder, f"{folder[:-1]}0")
        return Upload(id=id, **rows[0]) if rows else None

    async def recent(self, prefixes: Sequence[str], limit: int) -> list[RecentObject]:
        """Return the most recently changed objects, newest first, found among the latest facts."""
        try:
            return [RecentObject(**row) for row in await self._ask(_RECENT, list(prefixes), limit, MAX_LATEST_FACTS)]
        except UndefinedTableError:  # the service that owns a view has never run
            return []

    async def counts(self, prefixes: Sequence[str]) -> dict[str, Any]:
        """Count digests, objects and work below `prefixes` (`bucket/prefix`); without prefixes, everything.

        Tables, datasets and sweeps concern the whole system and are empty with prefixes.
        """
        digests = await self._ask(_DIGESTS, list(prefixes), seconds=COUNT_SECONDS)
        objects = await self._ask(_OBJECTS, list(prefixes), seconds=COUNT_SECONDS)
        work = await self._ask(_WORK, list(prefixes), seconds=COUNT_SECONDS)
        tables, sweeps = ([], []) if prefixes else (await self._ask(_TABLES), await self._ask(_LAST_SWEEP))
        datasets = [] if prefixes else await self._datasets()
        return {
            "digests": [dict(row) for row in digests],
            "objects": [dict(row) for row in objects],
            "work": [dict(row) for row in work],
            "tables": [dict(row) for row in tables],
            "datasets": [dict(row) for row in datasets],
            "last_sweep": dict(sweeps[0]) if sweeps else None,
        }

    async def _datasets(self) -> list[Record]:
        try:
            return await self._ask(_DATASETS)
        except UndefinedTableError:  # etl has never run
            return []

    async def leases(self) -> list[dict[str, Any]]:
        """Return the holders of leased work with their last heartbeats."""
        return [dict(row) for row in await self._ask(_LEASES)]

    async def _ask(self, statement: str, *values: object, seconds: float = QUERY_SECONDS) -> list[Record]:
        async with acquire_within(self._pool, seconds=seconds) as connection:
            return await connection.fetch(statement, *values)


_UPLOAD = """
SELECT
    place.bucket, place.key, o.metadata ->> 'penstock-owner' AS owner, coalesce(o.etag, d.etag) AS etag,
    coalesce(o.version_id, d.version_id) AS version_id, coalesce(o.size, d.size) AS size, o.state,
    coalesce(o.correlation_id, d.correlation_id) AS correlation_id, o.seen_by, o.revision, o.updated_at AS noted_at,
    d.status, d.etag AS hashed_etag, coalesce(d.digests, '{}') AS digests, d.verification, d.attempts, d.error,
    d.updated_at AS hashed_at, w.state AS work_state, w.attempt AS work_attempts, w.worker, w.progress
FROM (SELECT * FROM api.objects WHERE bucket = $1 AND key >= $2 AND key < $3) AS o
FULL JOIN (SELECT * FROM api.digest_history WHERE bucket = $1 AND key >= $2 AND key < $3) AS d USING (bucket, key)
CROSS JOIN LATERAL (SELECT coalesce(o.bucket, d.bucket) AS bucket, coalesce(o.key, d.key) AS key) AS place
LEFT JOIN api.work AS w ON w.queue = 'digest' AND w.key = (
    d.bucket || '/' || d.key || '@' || coalesce(d.version_id, '') || '#' || d.etag
) COLLATE "default"
ORDER BY place.key, d.current DESC, d.revision DESC LIMIT 1
"""
"""The key is a range, for of the name only the beginning is known; the work's key is as the hasher names it. What was
concluded stays so when the object is removed: then the last row counts."""

_RECENT = """
SELECT f.bucket, f.key, f.at, o.state, o.size, d.status, coalesce(d.digests, '{}') AS digests, d.error
FROM (
    SELECT bucket, key, max(seq) AS seq, max(at) AS at
    FROM (SELECT bucket, key, seq, at FROM api.timeline ORDER BY seq DESC LIMIT $3) AS latest
    WHERE key IS NOT NULL AND (cardinality($1::text[]) = 0 OR bucket || '/' || key ^@ ANY ($1::text[]))
    GROUP BY 1, 2 ORDER BY 3 DESC LIMIT $2
) AS f
LEFT JOIN api.objects AS o ON o.bucket = f.bucket AND o.key = f.key
LEFT JOIN LATERAL (
    SELECT status, digests, error FROM api.digests
    WHERE bucket = f.bucket AND key = f.key ORDER BY created_at DESC LIMIT 1
) AS d ON true
ORDER BY f.seq DESC
"""

_DIGESTS = """
SELECT bucket, status, count(*) AS versions, coalesce(sum(size), 0)::bigint AS bytes,
    extract(epoch FROM now() - min(created_at))::float8 AS oldest_seconds
FROM api.digests WHERE cardinality($1::text[]) = 0 OR bucket || '/' || key ^@ ANY ($1::text[])
GROUP BY 1, 2 ORDER BY 1, 2
"""
_OBJECTS = """
SELECT bucket, state, count(*) AS objects, coalesce(sum(size), 0)::bigint AS bytes
FROM api.objects WHERE cardinality($1::text[]) = 0 OR bucket || '/' || key ^@ ANY ($1::text[])
GROUP BY 1, 2 ORDER BY 1, 2
"""
_WORK = """
SELECT queue, state, count(*) AS items, extract(epoch FROM now() - min(created_at))::float8 AS oldest_seconds
FROM api.work WHERE cardinality($1::text[]) = 0 OR key ^@ ANY ($1::text[])
GROUP BY 1, 2 ORDER BY 1, 2
"""
_TABLES = """
SELECT schemaname || '.' || relname AS name, pg_total_relation_size(relid) AS bytes, n_live_tup AS rows_about
FROM pg_stat_user_tables ORDER BY 1
"""
_DATASETS = "SELECT name, state, failed, error FROM api.datasets ORDER BY name"
_LAST_SWEEP = "SELECT * FROM api.sweeps ORDER BY started_at DESC LIMIT 1"
_LEASES = """
SELECT queue, worker, count(*) AS items, max(heartbeat_at) AS last_seen
FROM api.work WHERE state = 'running' GROUP BY 1, 2 ORDER BY 1, 2
"""
