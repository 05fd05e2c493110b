"""`ingress.webhooks` and `ingress.webhook_failures`: subscriptions, cursors and failed deliveries."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from services.ingress.adapters.postgres_pool import acquire_within
from services.ingress.adapters.token_table import is_valid_sql, parent_ended
from services.ingress.core.fact_filter import FactFilter
from services.ingress.core.quotas import MAX_WEBHOOKS, quota_exceeded
from services.ingress.core.webhooks import Webhook
from shared.errors import Rejected
from shared.postgres import Connection, Pool

LEASE: Final = timedelta(seconds=25)
"""Longer than two deliveries may take; renewed by every write."""

FAILURES_BYTES: Final = 4 << 20
"""Of the facts in one answer."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A webhook that is this process's to deliver; `token` fences what it writes."""

    hook: Webhook
    token: int


@dataclass(frozen=True, slots=True)
class FailedDelivery:
    """A fact whose delivery failed; `fact` is the payload."""

    seq: int
    fact: Mapping[str, Any]
    attempts: int
    error: str
    failed_at: Any
    again: bool


class WebhookTable:
    """Questions and changes; every method raises an outage when the database does not answer within seconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, hook: Webhook) -> Webhook:
        """Save a new webhook; return it as it is saved.

        Raises Problem: QUOTA_USED_UP; BAD_TOKEN when its token has ended meanwhile.
        """
        fact_filter = hook.fact_filter
        values = (
            hook.id,
            hook.url,
            list(fact_filter.types),
            fact_filter.bucket,
            fact_filter.prefix,
            list(hook.prefixes),
            hook.cursor,
        )
        async with acquire_within(self._pool) as connection, connection.transaction():
            await connection.execute(_ONE_AT_A_TIME)
            if await connection.fetchval(_COUNT, hook.token_id) >= MAX_WEBHOOKS:
                raise quota_exceeded("webhooks", MAX_WEBHOOKS, "remove one with DELETE /webhooks/<id>")
            row = await connection.fetchrow(_ADD, *values, hook.created_by, hook.token_id)
        if row is None:
            raise parent_ended()
        return _hook(row)

    async def all(self, made_by: str | None) -> list[Webhook]:
        """Return every webhook, oldest first; with a token's id, only those of that token and its descendants."""
        async with acquire_within(self._pool) as connection:
            return [_hook(row) for row in await connection.fetch(_ALL, made_by)]

    async def get(self, webhook_id: str, made_by: str | None) -> Webhook:
        """Return one webhook, of those that `all` returns; a foreign one costs the same as one that is not there.

        Raises Rejected: NO_SUCH_WEBHOOK.
        """
        async with acquire_within(self._pool) as connection:
            row = await connection.fetchrow(_ONE, made_by, webhook_id)
        if row is None:
            raise Rejected("NO_SUCH_WEBHOOK", "there is no such webhook: GET /webhooks lists them")
        return _hook(row)

    async def remove(self, webhook_id: str) -> None:
        """Delete a webhook and its failed deliveries."""
        async with acquire_within(self._pool) as connection:
            await connection.execute("DELETE FROM ingress.webhooks WHERE id = $1", webhook_id)

    async def failures(self, webhook_id: str, after: int, limit: int) -> list[FailedDelivery]:
        """Return failed deliveries, oldest first: at most `limit` and FAILURES_BYTES bytes of payloads."""
        async with acquire_within(self._pool) as connection:
            return [
                _undelivered(row) for row in await connection.fetch(_FAILURES, webhook_id, after, limit, FAILURES_BYTES)
            ]

    async def retry(self, webhook_id: str) -> int:
        """Enable a webhook and schedule its failed deliveries again; return how many.

        Raises Rejected: TOKEN_ENDED.
        """
        async with acquire_within(self._pool) as connection, connection.transaction():
            if not await connection.fetchval(_ENABLE, webhook_id):
                raise _orphaned()
            return len(await connection.fetch(_AGAIN, webhook_id))

    async def require_valid_token(self, webhook_id: str) -> None:
        """Refuse a webhook whose token has ended.

        Raises Rejected: TOKEN_ENDED.
        """
        async with acquire_within(self._pool) as connection:
            if not await connection.fetchval(_IS_HELD, webhook_id):
                raise _orphaned()

    async def claim(self, busy: Collection[str] = ()) -> Claim | None:
        """Claim a webhook that is due and not leased, of any token but those `busy`."""
        async with acquire_within(self._pool) as connection:
            row = await connection.fetchrow(_CLAIM, list(busy), LEASE)
        return Claim(_hook(row), row["lease_token"]) if row else None

    async def pending_retries(self, claim: Claim) -> Sequence[FailedDelivery]:
        """Return the failed deliveries that are to be sent again."""
        async with acquire_within(self._pool) as connection:
            return [_undelivered(row) for row in await connection.fetch(_FAILURES_TO_RETRY, claim.hook.id)]

    async def resolve_retry(self, claim: Claim, seq: int, error: str | None) -> bool:
        """Record the result of a repeated delivery; return whether the lease still holds."""
        async with acquire_within(self._pool) as connection, connection.transaction():
            if error is None:
                await connection.execute(_DELIVERED_AGAIN, claim.hook.id, seq)
            else:
                await connection.execute(_FAILED_AGAIN, claim.hook.id, seq, error)
            return await self._is_held(connection, _RENEW, claim)

    async def advance(self, claim: Claim, seq: int, *, delivered: bool) -> bool:
        """Record that everything up to `seq` was processed; return whether the lease still holds."""
        async with acquire_within(self._pool) as connection:
            return await self._is_held(connection, _ADVANCE, claim, seq, delivered)

    async def postpone(self, claim: Claim, failures: int, error: str, wait: timedelta) -> None:
        """Note that a delivery failed and is tried again after `wait`."""
        async with acquire_within(self._pool) as connection:
            await self._is_held(connection, _POSTPONE, claim, failures, error, wait)

    async def skip_failed(self, claim: Claim, undelivered: FailedDelivery) -> bool:
        """Save a fact as a failed delivery and advance the cursor past it."""
        values = (undelivered.seq, undelivered.fact, undelivered.attempts, undelivered.error)
        async with acquire_within(self._pool) as connection:
            return await self._is_held(connection, _GIVE_UP, claim, *values)

    async def disable(self, claim: Claim, error: str) -> None:
        """Disable the webhook until it is retried through the API."""
        async with acquire_within(self._pool) as connection:
            await self._is_held(connection, _DISABLE, claim, error)

    async def release(self, claim: Claim) -> None:
        """Release the lease."""
        async with acquire_within(self._pool) as connection:
            await self._is_held(connection, _RELEASE, claim)

    async def _is_held(self, connection: Connection, change: str, claim: Claim, *values: Any) -> bool:
        return bool(await connection.fetchval(change, claim.hook.id, claim.token, *values))


def _orphaned() -> Rejected:
    return Rejected("TOKEN_ENDED", "the token that made this webhook was revoked or has expired: make a new webhook")


def _hook(row: Any) -> Webhook:
    return Webhook(
        id=row["id"],
        url=row["url"],
        fact_filter=FactFilter(tuple(row["types"]), row["bucket"], row["prefix"]),
        prefixes=tuple(row["places"]),
        cursor=row["cursor"],
        created_by=row["created_by"],
        token_id=row["token_id"],
        created_at=row["created_at"],
        enabled=row["enabled"],
        failures=row["failures"],
        last_error=row["last_error"],
        last_delivered_at=row["last_delivered_at"],
        next_try_at=row["next_try_at"],
    )


def _undelivered(row: Any) -> FailedDelivery:
    return FailedDelivery(row["seq"], row["fact"], row["attempts"], row["error"], row["failed_at"], row["again"])


_ADD = f"""
INSERT INTO ingress.webhooks (id, url, types, bucket, prefix, places, cursor, created_by, token_id)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9::text WHERE {is_valid_sql("$9::text")} RETURNING *
"""

_ONE_AT_A_TIME = "LOCK TABLE ingress.webhooks IN SHARE ROW EXCLUSIVE MODE"
"""Else two that are made at once would both be the last that is allowed."""

_COUNT = "SELECT count(*) FROM ingress.webhooks WHERE token_id = $1"

_MADE_BY = """
WITH RECURSIVE line AS (
    SELECT $1::text AS id UNION SELECT made.id FROM ingress.tokens AS made JOIN line ON made.parent_id = line.id
)
SELECT * FROM ingress.webhooks WHERE ($1::text IS NULL OR token_id IN (SELECT id FROM line))
"""

_ALL = f"{_MADE_BY} ORDER BY created_at, id"

_ONE = f"{_MADE_BY} AND id = $2"

_IS_HELD = f"SELECT true FROM ingress.webhooks WHERE id = $1 AND {is_valid_sql('token_id')}"  # noqa: S608

_FAILURES = """
SELECT * FROM (
    SELECT *, sum(octet_length(fact::text)) OVER (
        ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM (
        SELECT * FROM ingress.webhook_failures WHERE webhook_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
    ) AS following
) AS page WHERE coalesce(bytes_before, 0) < $4 ORDER BY seq
"""

_ENABLE = f"""
UPDATE ingress.webhooks SET enabled = true, failures = 0, next_try_at = clock_timestamp()
WHERE id = $1 AND {is_valid_sql("token_id")} RETURNING true
"""  # noqa: S608

_AGAIN = "UPDATE ingress.webhook_failures SET again = true WHERE webhook_id = $1 RETURNING 1"

_CLAIM = f"""
WITH due AS (
    SELECT id FROM ingress.webhooks AS hook
    WHERE enabled AND {is_valid_sql("token_id")} AND token_id <> ALL ($1::text[])
        AND next_try_at <= clock_timestamp() AND lease_until <= clock_timestamp() AND (
        EXISTS (SELECT FROM ingress.facts WHERE seq > cursor)
        OR cursor > (SELECT last_value FROM ingress.facts_seq_seq)
        OR EXISTS (SELECT FROM ingress.webhook_failures WHERE webhook_id = hook.id AND again)
    )
    ORDER BY next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE ingress.webhooks AS hook SET lease_token = lease_token + 1, lease_until = clock_timestamp() + $2::interval
FROM due WHERE hook.id = due.id RETURNING hook.*
"""  # noqa: S608

_FAILURES_TO_RETRY = "SELECT * FROM ingress.webhook_failures WHERE webhook_id = $1 AND again ORDER BY seq LIMIT 100"

_DELIVERED_AGAIN = "DELETE FROM ingress.webhook_failures WHERE webhook_id = $1 AND seq = $2"

_FAILED_AGAIN = """
UPDATE ingress.webhook_failures SET again = false, attempts = attempts + 1, error = $3, failed_at = clock_timestamp()
WHERE webhook_id = $1 AND seq = $2
"""

_HELD = f"""
lease_until = clock_timestamp() + interval '{LEASE.total_seconds()} seconds'
WHERE id = $1 AND lease_token = $2 AND enabled AND {is_valid_sql("token_id")} RETURNING true
"""
"""The running delivery sees here, before the next fact, that the webhook or its token has ended."""

_RENEW = f"UPDATE ingress.webhooks SET {_HELD}"  # noqa: S608

_ADVANCE = f"""
UPDATE ingress.webhooks SET
    cursor = $3,
    failures = CASE WHEN $4 THEN 0 ELSE failures END,
    last_error = CASE WHEN $4 THEN NULL ELSE last_error END,
    last_delivered_at = CASE WHEN $4 THEN clock_timestamp() ELSE last_delivered_at END, {_HELD}
"""  # noqa: S608

_POSTPONE = """
UPDATE ingress.webhooks SET failures = $3, last_error = $4, next_try_at = clock_timestamp() + $5::interval
WHERE id = $1 AND lease_token = $2 AND enabled RETURNING true
"""

_GIVE_UP = f"""
WITH hook AS (
    UPDATE ingress.webhooks SET cursor = $3, failures = 0, last_error = $6, {_HELD}
), put_aside AS (
    INSERT INTO ingress.webhook_failures (webhook_id, seq, fact, attempts, error)
    SELECT $1, $3, $4, $5, $6 FROM hook ON CONFLICT DO NOTHING
)
SELECT true FROM hook
"""  # noqa: S608

_DISABLE = """
UPDATE ingress.webhooks SET enabled = false, last_error = $3
WHERE id = $1 AND lease_token = $2 AND enabled RETURNING true
"""

_RELEASE = """
UPDATE ingress.webhooks
SET lease_until = '-infinity', next_try_at = greatest(next_try_at, clock_timestamp())
WHERE id = $1 AND lease_token = $2 RETURNING true
"""
