"""`hasher.digests`: the state of every stored version's digests."""

from collections.abc import Iterable, Sequence
from typing import Any

from services.hasher.core.verdicts import Place, Remembered, Row, place_of
from shared.errors import one_line
from shared.events import ObjectChanged
from shared.postgres import Connection, Pool


class DigestLedger:
    """Rows under a natural key, ordered by revision: writing one twice is writing it once, and late is never."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def recall(self, places: Iterable[Place]) -> tuple[dict[Place, Remembered], int]:
        """Return what is known of `places`, and the database clock in microseconds."""
        wanted = list(zip(*set(places), strict=True)) or [(), (), ()]
        rows = await self._pool.fetch(_RECALL, *wanted)
        known = {
            (row["bucket"], row["key"], row["version_id"]): Remembered(
                etag=row["etag"],
                size=row["size"],
                status=row["status"],
                digests=row["digests"],
                verification=row["verification"],
                mismatched=tuple(row["mismatched"]),
                revision=row["revision"],
                is_current=row["current"],
            )
            for row in rows
            if row["bucket"] is not None
        }
        return known, rows[0]["clock"]

    async def record(self, rows: Sequence[Row], *, connection: Connection | None = None) -> set[Place]:
        """Keep `rows`, one a place; return the places where nothing newer was known, so the row now stands."""
        if not rows:
            return set()
        written = await (connection or self._pool).fetch(_RECORD, [_columns(row) for row in rows])
        return {(row["bucket"], row["key"], row["version_id"]) for row in written}

    async def remove(self, changes: Sequence[ObjectChanged], *, clock: int) -> None:
        """Note removals that the bucket confirmed: digests leave the view with their object, the unread are gone."""
        if changes:
            removals = [
                {
                    "bucket": one.bucket,
                    "key": one.key,
                    "version_id": one.version_id or "",
                    "revision": one.revision,
                }
                for one in changes
            ]
            await self._pool.execute(_REMOVE, removals, clock)


def _columns(row: Row) -> dict[str, Any]:
    bucket, key, version_id = place_of(row.change)
    return {
        "bucket": bucket,
        "key": key,
        "version_id": version_id,
        "etag": row.change.etag,
        "size": row.change.size,
        "digests": dict(row.digests),
        "status": row.status,
        "verification": row.verification,
        "mismatched": list(row.mismatched),
        "error": row.failure and one_line(row.failure),
        "revision": row.change.revision,
        "correlation_id": row.change.correlation_id,
        "kept": row.kept,
        "current": row.is_current,
    }


_RECALL = """
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock, found.*
FROM (SELECT 1) AS one LEFT JOIN (
    SELECT bucket, key, version_id, etag, size, status, digests, verification, mismatched, revision, current
    FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (bucket, key, version_id)
    JOIN hasher.digests USING (bucket, key, version_id)
) AS found ON true
"""

_RECORD = """
WITH told AS (
    SELECT * FROM jsonb_populate_recordset(NULL::hasher.digests, $1)
), written AS (
    INSERT INTO hasher.digests AS mine (
        bucket, key, version_id, etag, size, digests, status, verification, mismatched, attempts, error, revision,
        correlation_id, kept, current
    )
    SELECT
        bucket, key, version_id, etag, size, digests, status, verification, mismatched,
        (status NOT IN ('pending'))::integer, error, revision, correlation_id, kept,
        -- what led to no object does not stand beside the object that is there
        current AND NOT (status IN ('superseded', 'gone') AND EXISTS (
            SELECT FROM hasher.digests AS other
            WHERE other.bucket = told.bucket AND other.key = told.key AND other.version_id <> told.version_id
                AND other.current AND other.status = 'succeeded'
        ))
    FROM told
    ON CONFLICT (bucket, key, version_id) DO UPDATE SET
        etag = excluded.etag, size = excluded.size, digests = excluded.digests, status = excluded.status,
        verification = excluded.verification, mismatched = excluded.mismatched, error = excluded.error,
        revision = excluded.revision, correlation_id = excluded.correlation_id, kept = excluded.kept,
        current = excluded.current,
        attempts = CASE
            WHEN mine.revision < excluded.revision THEN excluded.attempts
            WHEN mine.status = 'running' AND excluded.status <> 'running' THEN mine.attempts
            ELSE mine.attempts + excluded.attempts
        END,
        created_at = CASE WHEN mine.revision < excluded.revision THEN clock_timestamp() ELSE mine.created_at END,
        updated_at = clock_timestamp()
    WHERE CASE
        WHEN mine.status = 'succeeded' AND excluded.status IN ('superseded', 'gone') THEN false
        WHEN mine.revision = excluded.revision THEN mine.status <> 'succeeded' OR excluded.status = 'succeeded'
        ELSE mine.revision < excluded.revision
    END
    RETURNING mine.bucket, mine.key, mine.version_id, mine.revision, mine.status, mine.current
), older AS (
    UPDATE hasher.digests AS mine SET current = false
    FROM written
    WHERE written.current AND written.status NOT IN ('superseded', 'gone')
        AND mine.bucket = written.bucket AND mine.key = written.key
        AND mine.version_id <> written.version_id AND mine.revision < written.revision AND mine.current
)
SELECT bucket, key, version_id FROM written
"""

_REMOVE = """
UPDATE hasher.digests AS mine SET
    status = CASE WHEN mine.status IN ('succeeded', 'failed') THEN mine.status ELSE 'gone' END,
    current = mine.kept OR mine.status NOT IN ('succeeded', 'failed'),
    -- a forged revision outdates no later change
    revision = greatest(mine.revision + 1, least(removed.revision, $2)), updated_at = clock_timestamp()
FROM jsonb_to_recordset($1) AS removed (bucket text, key text, version_id text, revision bigint)
WHERE mine.bucket = removed.bucket AND mine.key = removed.key AND mine.revision < removed.revision
    AND (removed.version_id = '' OR mine.version_id = removed.version_id)
"""
