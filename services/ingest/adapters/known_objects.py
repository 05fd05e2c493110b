"""The known objects, pending verifications and sweeps of ingest, in Postgres."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from services.ingest.core.decisions import KnownObject, ObjectKey, Outcome
from shared.events import ObjectChanged, SweepCompleted
from shared.middleware.records import Record, stored_record
from shared.postgres import Pool


class KnownObjects:
    """The latest known state of every key (`ingest.objects`) and the notifications to verify (`ingest.doubts`)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def publishing(self, *, exclusive: bool = False) -> AsyncIterator[None]:
        """Hold the publishing lock from `get` to `save`: shared for lanes, exclusive for a sweep.

        Without it, a sweep and a lane could both publish an unknown version, under two ids.
        """
        lock = "pg_advisory_xact_lock" if exclusive else "pg_advisory_xact_lock_shared"
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SELECT {lock}(hashtextextended('ingest.telling', 0))")
            yield

    async def get(self, keys: Iterable[ObjectKey]) -> tuple[dict[ObjectKey, KnownObject], int]:
        """Return the known objects among `keys`, and the database clock in microseconds."""
        unique = list(set(keys))
        rows = await self._pool.fetch(_GET, [bucket for bucket, _ in unique], [key for _, key in unique])
        found = {(row["bucket"], row["key"]): _known(row) for row in rows if row["bucket"] is not None}
        return found, rows[0]["clock"]

    async def save(self, outcome: Outcome, *, sweep_id: str | None = None) -> None:
        """Save the states of `outcome`; an older revision never replaces a newer one."""
        if outcome.states:
            rows = [_row(fact, state, sweep_id) for fact, state in outcome.states.values()]
            await self._pool.execute(_SAVE, rows)
        if outcome.adopted:
            late = [one.model_dump(include={"bucket", "key", "sequencer", "seen_by"}) for one in outcome.adopted]
            await self._pool.execute(_ADOPT_SEQUENCERS, late)

    async def list_stored(
        self, bucket: str, prefix: str, *, after: str, upto: str | None, limit: int
    ) -> dict[str, KnownObject]:
        """Return known stored objects with `after` < key <= `upto`, in order, at most `limit`."""
        rows = await self._pool.fetch(_LIST_STORED, bucket, after, upto, prefix, limit)
        return {row["key"]: _known(row) for row in rows}

    async def add_pending(self, records: Sequence[Record], seconds: float) -> None:
        """Save records whose object is missing; they are due for verification after `seconds`."""
        await self._pool.executemany(
            "INSERT INTO ingest.doubts (topic, partition, record_offset, record_key, record_value, due_at) "
            "VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6)) ON CONFLICT DO NOTHING",
            [(one.topic, one.partition, one.offset, one.key, one.value, seconds) for one in records],
        )

    async def due_pending(self, limit: int = 100) -> list[Record]:
        """Return the records that are due for verification, unchanged."""
        rows = await self._pool.fetch(
            "SELECT topic, partition, record_offset, record_key, record_value FROM ingest.doubts "
            "WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT $1",
            limit,
        )
        return [stored_record(*row) for row in rows]

    async def postpone_pending(self, record: Record, seconds: float) -> None:
        """Make the verification of `record` due again after `seconds`."""
        await self._pool.execute(
            "UPDATE ingest.doubts SET due_at = clock_timestamp() + make_interval(secs => $4) "
            "WHERE topic = $1 AND partition = $2 AND record_offset = $3",
            record.topic,
            record.partition,
            record.offset,
            seconds,
        )

    async def remove_pending(self, record: Record) -> None:
        """Delete the pending verification of `record`."""
        await self._pool.execute(
            "DELETE FROM ingest.doubts WHERE topic = $1 AND partition = $2 AND record_offset = $3",
            record.topic,
            record.partition,
            record.offset,
        )

    async def start_sweep(self, sweep_id: str, buckets: Sequence[str], prefix: str) -> None:
        """Save that a sweep started; a sweep taken over from another worker restarts its counts."""
        await self._pool.execute(
            "INSERT INTO ingest.sweeps (sweep_id, buckets, prefix) VALUES ($1, $2, $3) "
            "ON CONFLICT (sweep_id) DO UPDATE SET listed = 0, started_at = clock_timestamp(), finished_at = NULL",
            sweep_id,
            list(buckets),
            prefix,
        )

    async def finish_sweep(self, done: SweepCompleted) -> None:
        """Save the result of a sweep and delete old unpublished removals."""
        await self._pool.execute(
            "UPDATE ingest.sweeps SET listed = $2, missed = $3, vanished = $4, finished_at = clock_timestamp() "
            "WHERE sweep_id = $1",
            done.sweep_id,
            done.listed,
            done.missed,
            done.vanished,
        )
        await self._pool.execute(_DELETE_UNPUBLISHED)


def _known(row: asyncpg.Record) -> KnownObject:
    return KnownObject(
        row["state"],
        row["version_id"],
        row["etag"],
        row["sequencer"],
        row["revision"],
        row["correlation_id"],
        size=row["size"],
        content_type=row["content_type"],
        metadata=row["metadata"],
        last_modified=row["occurred_at"],
        announced=row["announced"],
    )


def _row(fact: ObjectChanged, state: KnownObject, sweep_id: str | None) -> dict[str, Any]:
    columns = fact.model_dump(mode="json", include=_FACT_COLUMNS)
    return columns | {
        "state": fact.change,
        "sequencer": state.sequencer,
        "sweep_id": sweep_id,
        "announced": state.announced,
    }


# must equal `decisions.sequencer_order`
_SEQUENCER_ORDER = "rpad(upper({}), 64, '0') COLLATE \"C\""

_FACT_COLUMNS = {
    "bucket",
    "key",
    "version_id",
    "etag",
    "size",
    "content_type",
    "metadata",
    "revision",
    "seen_by",
    "correlation_id",
    "occurred_at",
}

_GET = """
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock, found.*
FROM (SELECT 1) AS one LEFT JOIN (
    SELECT bucket, key, state, version_id, etag, sequencer, revision, correlation_id, size, content_type, metadata,
           occurred_at, announced
    FROM unnest($1::text[], $2::text[]) AS requested (bucket, key) JOIN ingest.objects USING (bucket, key)
) AS found ON true
"""

_SAVE = """
INSERT INTO ingest.objects AS saved (
    bucket, key, state, version_id, etag, size, content_type, metadata, sequencer, revision, seen_by, sweep_id,
    correlation_id, occurred_at, announced
)
SELECT
    bucket, key, state, version_id, etag, size, content_type, metadata, sequencer, revision, seen_by, sweep_id,
    correlation_id, occurred_at, announced
FROM jsonb_populate_recordset(NULL::ingest.objects, $1)
ON CONFLICT (bucket, key) DO UPDATE SET
    state = excluded.state, version_id = excluded.version_id, etag = excluded.etag, size = excluded.size,
    content_type = excluded.content_type, sequencer = excluded.sequencer,
    -- a removal has no metadata; keep the object's, which still tells its owner
    metadata = CASE excluded.state WHEN 'removed' THEN saved.metadata ELSE excluded.metadata END,
    revision = excluded.revision, seen_by = excluded.seen_by, sweep_id = excluded.sweep_id,
    correlation_id = excluded.correlation_id, occurred_at = excluded.occurred_at, announced = excluded.announced,
    updated_at = clock_timestamp()
WHERE saved.revision < excluded.revision
"""

_ADOPT_SEQUENCERS = f"""
WITH late AS (
    SELECT DISTINCT ON (bucket, key) *
    FROM jsonb_to_recordset($1) AS late (bucket text, key text, sequencer text, seen_by text)
    ORDER BY bucket, key, {_SEQUENCER_ORDER.format("sequencer")} DESC
), adopted AS (
    UPDATE ingest.objects AS saved
    SET sequencer = late.sequencer, updated_at = clock_timestamp(),
        seen_by = CASE WHEN before.sequencer IS NULL THEN late.seen_by ELSE saved.seen_by END
    FROM late JOIN ingest.objects AS before USING (bucket, key)
    WHERE saved.bucket = late.bucket AND saved.key = late.key
        AND (
            saved.sequencer IS NULL
            OR {_SEQUENCER_ORDER.format("saved.sequencer")} < {_SEQUENCER_ORDER.format("late.sequencer")}
        )
    RETURNING saved.sweep_id, before.sequencer IS NULL AS was_found
)
UPDATE ingest.sweeps AS swept SET late = swept.late + counted.n
FROM (SELECT sweep_id, count(*) AS n FROM adopted WHERE was_found GROUP BY sweep_id) AS counted
WHERE swept.sweep_id = counted.sweep_id
"""  # noqa: S608 - only constants are formatted in

_LIST_STORED = """
SELECT key, state, version_id, etag, sequencer, revision, correlation_id, size, content_type, metadata, occurred_at,
       announced
FROM ingest.objects
WHERE bucket = $1 AND key > $2 AND ($3::text IS NULL OR key <= $3) AND starts_with(key, $4) AND state = 'stored'
ORDER BY key LIMIT $5
"""

_DELETE_UNPUBLISHED = """
DELETE FROM ingest.objects WHERE NOT announced AND updated_at < clock_timestamp() - interval '1 day'
"""
