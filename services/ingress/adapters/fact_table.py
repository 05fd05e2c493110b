"""`ingress.facts`: every fact read from the bus, in the order of commits."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg

from services.ingress.adapters.postgres_pool import acquire_within
from services.ingress.core.facts import Fact
from shared.postgres import Connection, Pool

CHANNEL: Final = "penstock_facts"
"""NOTIFY channel for new facts."""
DELETE_BATCH: Final = 5000
PAGE_BYTES: Final = 256 << 10
"""Of the bodies of one page of the feed: each of hundreds of streams may hold one."""
TIMELINE_BYTES: Final = 4 << 20
"""Of the bodies of one answer of a timeline."""


class FactTable:
    """Facts, each once; `seq` grows in commit order, so a cursor never skips a fact that is committed later."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, facts: Sequence[Fact]) -> int:
        """Insert the facts that are new, notify listeners, and return how many were new."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_IN_ORDER)
            added: int = await connection.fetchval(_ADD, *_columns(facts))
            if added:
                await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
            return added

    async def page(self, after: int, limit: int) -> list[Fact]:
        """Return the facts after `after`, oldest first: at least one, and no more than PAGE_BYTES hold."""
        async with acquire_within(self._pool) as connection:
            return [_fact(row) for row in await connection.fetch(_PAGE, after, limit, PAGE_BYTES)]

    async def last(self) -> int:
        """Return the `seq` of the newest fact; 0 if there is none."""
        async with acquire_within(self._pool) as connection:
            return int(await connection.fetchval("SELECT coalesce(max(seq), 0) FROM ingress.facts"))

    async def highest(self) -> int:
        """Return the highest `seq` ever assigned, even if that fact was deleted."""
        async with acquire_within(self._pool) as connection:
            return int(await connection.fetchval(_HIGHEST))

    async def about(self, bucket: str, key: str, after: int, limit: int) -> tuple[list[Fact], bool]:
        """Return the facts about one object ordered by time, after the fact with seq `after`.

        At most `limit` facts and TIMELINE_BYTES bytes of bodies; the flag is true if more may follow.
        """
        async with acquire_within(self._pool) as connection:
            rows = await connection.fetch(_ABOUT, bucket, key, after, limit, TIMELINE_BYTES)
        return [_fact(row) for row in rows], bool(rows) and (len(rows) == limit or len(rows) < rows[0]["found"])

    async def state(self, bucket: str, key: str) -> dict[str, list[dict[str, Any]]]:
        """Return the other services' records of an object: `object`, `digests`, and unfinished `work`."""
        async with acquire_within(self._pool) as connection:
            return {name: await _rows(connection, statement, bucket, key) for name, statement in _STATE.items()}

    async def delete_older_than(self, age: timedelta) -> int:
        """Remove some of the facts that are older than `age`; return how many."""
        return len(await self._pool.fetch(_FORGET, age, DELETE_BATCH))


async def _rows(connection: Connection, statement: str, bucket: str, key: str) -> list[dict[str, Any]]:
    """Return the rows of a view; empty if the service that owns the view has never run."""
    try:
        return [dict(row) for row in await connection.fetch(statement, bucket, key)]
    except asyncpg.UndefinedTableError:
        return []


def _columns(facts: Sequence[Fact]) -> list[list[Any]]:
    rows = [
        (
            one.topic,
            one.event_id,
            one.type,
            one.bucket,
            one.key,
            one.correlation_id,
            one.at,
            one.service,
            one.error,
            None if one.body is None else json.dumps(one.body),
            one.partition,
            one.offset,
            *(one.resolved_dead_letter or (None, None)),
        )
        for one in facts
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _fact(row: Any) -> Fact:
    return Fact(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["record_offset"],
        event_id=row["event_id"],
        type=row["type"],
        at=row["at"],
        service=row["service"],
        bucket=row["bucket"],
        key=row["key"],
        correlation_id=row["correlation_id"],
        error=row["error"],
        body=row["body"],
        seq=row["seq"],
    )


_IN_ORDER = "SELECT pg_advisory_xact_lock(hashtextextended('penstock.facts', 0))"
"""Serializes inserts, so that numbers are committed in order and no reader skips one."""

_ADD = """
WITH arrived AS (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[],
        $9::text[], $10::text[], $11::integer[], $12::bigint[], $13::text[], $14::text[]
    ) WITH ORDINALITY AS arrived (
        topic, event_id, type, bucket, key, correlation_id, at, service, error, body, partition, record_offset,
        dlq_topic, dlq_event_id, nth
    )
), added AS (
    INSERT INTO ingress.facts (
        topic, event_id, type, bucket, key, correlation_id, at, service, error, body, partition, record_offset
    )
    SELECT
        arrived.topic, arrived.event_id, arrived.type, coalesce(arrived.bucket, origin.bucket),
        coalesce(arrived.key, origin.key), arrived.correlation_id, least(arrived.at, clock_timestamp()),
        arrived.service, arrived.error, arrived.body::jsonb, arrived.partition, arrived.record_offset
    FROM arrived LEFT JOIN ingress.facts AS origin
        ON origin.topic = arrived.dlq_topic AND origin.event_id = arrived.dlq_event_id
    ORDER BY nth
    ON CONFLICT (topic, event_id) DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM added
"""
"""A settled fact gets bucket and key of the dead letter it resolves."""

_HIGHEST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ingress.facts_seq_seq"

_PAGE = """
SELECT * FROM (
    SELECT *, sum(coalesce(octet_length(body::text), 0)) OVER (
        ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM (SELECT * FROM ingress.facts WHERE seq > $1 ORDER BY seq LIMIT $2) AS following
) AS page WHERE coalesce(bytes_before, 0) < $3 ORDER BY seq
"""

_ABOUT = """
SELECT * FROM (
    SELECT *, count(*) OVER () AS found, sum(coalesce(octet_length(body::text), 0)) OVER (
        ORDER BY at, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM (
        SELECT * FROM ingress.facts
        WHERE bucket = $1 AND key = $2
            AND (at, seq) > (coalesce((SELECT at FROM ingress.facts WHERE seq = $3), '-infinity'), $3)
        ORDER BY at, seq LIMIT $4
    ) AS following
) AS page WHERE coalesce(bytes_before, 0) < $5 ORDER BY at, seq
"""
"""A page that begins after a fact that was forgotten begins with the oldest one."""

_FORGET = """
DELETE FROM ingress.facts WHERE seq IN (
    SELECT seq FROM ingress.facts WHERE at < clock_timestamp() - $1::interval ORDER BY at LIMIT $2
    FOR UPDATE SKIP LOCKED
) RETURNING 1
"""

_STATE: Final = {
    "object": """
        SELECT state, version_id, etag, size, content_type, metadata, seen_by, correlation_id, last_modified, updated_at
        FROM api.objects WHERE bucket = $1 AND key = $2
    """,
    "digests": """
        SELECT version_id, etag, size, status, digests, verification, mismatched, attempts, error, updated_at
        FROM (
            SELECT *, row_number() OVER (ORDER BY current DESC, revision DESC) AS place
            FROM api.digest_history WHERE bucket = $1 AND key = $2
        ) AS known WHERE current OR place = 1 ORDER BY updated_at LIMIT 1000
    """,
    "work": """
        SELECT queue, state, attempt, progress, error, created_at, updated_at FROM api.work
        WHERE state IN ('pending', 'running') AND payload->>'bucket' = $1 AND payload->>'key' = $2
        ORDER BY created_at LIMIT 1000
    """,
}
