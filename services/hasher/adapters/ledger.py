"""Access to `hasher.digests`: the state of every stored version's digests."""

from collections.abc import Iterable, Sequence
from typing import Any

from services.hasher.core.decisions import DigestRow, LedgerEntry, VersionKey, version_key_of
from shared.errors import one_line
from shared.events import ObjectChanged
from shared.postgres import Connection, Pool


class DigestLedger:
    """Rows by natural key and revision: writes are idempotent, and an older revision never replaces a newer one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, keys: Iterable[VersionKey]) -> tuple[dict[VersionKey, LedgerEntry], int]:
        """Return the entries of `keys` that exist, and the database clock in microseconds."""
        columns = list(zip(*set(keys), strict=True)) or [(), (), ()]
        rows = await self._pool.fetch(_GET, *columns)
        known = {
            (row["bucket"], row["key"], row["version_id"]): LedgerEntry(
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

    async def save(self, rows: Sequence[DigestRow], *, connection: Connection | None = None) -> set[VersionKey]:
        """Upsert `rows`, one per version; return the versions that were written because no newer revision existed."""
        if not rows:
            return set()
        saved = await (connection or self._pool).fetch(_SAVE, [_columns(row) for row in rows])
        return {(row["bucket"], row["key"], row["version_id"]) for row in saved}

    async def mark_removed(self, changes: Sequence[ObjectChanged], *, clock: int) -> None:
        """Save confirmed removals: hide finished rows from the view and set unfinished ones to `gone`."""
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
            await self._pool.execute(_MARK_REMOVED, removals, clock)


def _columns(row: DigestRow) -> dict[str, Any]:
    bucket, key, version_id = version_key_of(row.change)
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
        "kept": row.outlives_object,
        "current": row.is_current,
    }


_GET = """
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock, found.*
FROM (SELECT 1) AS one LEFT JOIN (
    SELECT bucket, key, version_id, etag, size, status, digests, verification, mismatched, revision, current
    FROM unnest($1::text[], $2::text[], $3::text[]) AS requested (bucket, key, version_id)
    JOIN hasher.digests USING (bucket, key, version_id)
) AS found ON true
"""

_SAVE = """
WITH incoming AS (
    SELECT * FROM jsonb_populate_recordset(NULL::hasher.digests, $1)
), written AS (
    INSERT INTO hasher.digests AS saved (
        bucket, key, version_id, etag, size, digests, status, verification, mismatched, attempts, error, revision,
        correlation_id, kept, current
    )
    SELECT
        bucket, key, version_id, etag, size, digests, status, verification, mismatched,
        (status NOT IN ('pending'))::integer, error, revision, correlation_id, kept,
        -- a change whose object was not found is not current while another version of its key is
        current AND NOT (status IN ('superseded', 'gone') AND EXISTS (
            SELECT FROM hasher.digests AS other
            WHERE other.bucket = incoming.bucket AND other.key = incoming.key
                AND other.version_id <> incoming.version_id
                AND other.current AND other.status = 'succeeded'
        ))
    FROM incoming
    ON CONFLICT (bucket, key, version_id) DO UPDATE SET
        etag = excluded.etag, size = excluded.size, digests = excluded.digests, status = excluded.status,
        verification = excluded.verification, mismatched = excluded.mismatched, error = excluded.error,
        revision = excluded.revision, correlation_id = excluded.correlation_id, kept = excluded.kept,
        current = excluded.current,
        attempts = CASE
            WHEN saved.revision < excluded.revision THEN excluded.attempts
            WHEN saved.status = 'running' AND excluded.status <> 'running' THEN saved.attempts
            ELSE saved.attempts + excluded.attempts
        END,
        created_at = CASE WHEN saved.revision < excluded.revision THEN clock_timestamp() ELSE saved.created_at END,
        updated_at = clock_timestamp()
    WHERE CASE
        WHEN saved.status = 'succeeded' AND excluded.status IN ('superseded', 'gone') THEN false
        WHEN saved.revision = excluded.revision THEN saved.status <> 'succeeded' OR excluded.status = 'succeeded'
        ELSE saved.revision < excluded.revision
    END
    RETURNING saved.bucket, saved.key, saved.version_id, saved.revision, saved.status, saved.current
), older AS (
    UPDATE hasher.digests AS saved SET current = false
    FROM written
    WHERE written.current AND written.status NOT IN ('superseded', 'gone')
        AND saved.bucket = written.bucket AND saved.key = written.key
        AND saved.version_id <> written.version_id AND saved.revision < written.revision AND saved.current
)
SELECT bucket, key, version_id FROM written
"""

_MARK_REMOVED = """
UPDATE hasher.digests AS saved SET
    status = CASE WHEN saved.status IN ('succeeded', 'failed') THEN saved.status ELSE 'gone' END,
    current = saved.kept OR saved.status NOT IN ('succeeded', 'failed'),
    -- limit a forged revision to the clock, so that it outdates no later change
    revision = greatest(saved.revision + 1, least(removed.revision, $2)), updated_at = clock_timestamp()
FROM jsonb_to_recordset($1) AS removed (bucket text, key text, version_id text, revision bigint)
WHERE saved.bucket = removed.bucket AND saved.key = removed.key AND saved.revision < removed.revision
    AND (removed.version_id = '' OR saved.version_id = removed.version_id)
"""
