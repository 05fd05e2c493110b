"""`ingress.tokens`, `ingress.logins` and `ingress.sessions_ended`: tokens, login links and ended sessions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import asyncpg

from services.ingress.adapters.postgres_pool import acquire_within
from services.ingress.core.access import EVERYBODY, ROOT
from services.ingress.core.problems import HttpProblem
from services.ingress.core.quotas import MAX_LINKS, MAX_TOKENS, quota_exceeded
from services.ingress.core.sessions import SESSION_TTL
from services.ingress.core.tokens import Token
from shared.errors import Rejected
from shared.postgres import Pool

LINK_TTL: Final = timedelta(minutes=15)


def is_valid_sql(column: str) -> str:
    """Return the SQL condition that the token whose id is in `column` is valid, by the database clock.

    Enough for descendants too: a token is revoked with its parent and expires no later.
    """
    return f"""(
        {column} IN ('{ROOT.id}', '{EVERYBODY.id}') OR EXISTS (
            SELECT FROM ingress.tokens AS held WHERE held.id = {column} AND held.revoked_at IS NULL
                AND (held.expires_at IS NULL OR held.expires_at > clock_timestamp())
        )
    )"""


def parent_ended() -> HttpProblem:
    """Return the error for a token that ended between its request's authentication and the write."""
    return HttpProblem("BAD_TOKEN", "the token was revoked or has expired: use another one")


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """What holds now: the live tokens, and the sessions that were ended before their time."""

    tokens: Collection[Token]
    ended: frozenset[str]


class TokenTable:
    """Questions to the database; every method raises an outage when it does not answer within seconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(self) -> StoredTokens:
        """Return everything that holds now."""
        async with acquire_within(self._pool) as connection:
            tokens = await connection.fetch(_LIVE)
            ended = await connection.fetch(_ENDED, SESSION_TTL)
        return StoredTokens([_token(dict(row)) for row in tokens], frozenset(row["id"] for row in ended))

    async def add(self, token: Token) -> None:
        """Save a new token; a name is free again once its token was revoked or has expired.

        Raises Rejected: NAME_TAKEN. Raises Problem: QUOTA_USED_UP; BAD_TOKEN when its maker has ended meanwhile.
        """
        async with acquire_within(self._pool) as connection, connection.transaction():
            await connection.execute(_ONE_AT_A_TIME)
            if not await connection.fetchval(_HOLDS, token.parent_id):
                raise parent_ended()
            if await connection.fetchval(_COUNT, token.parent_id) >= MAX_TOKENS:
                raise quota_exceeded("live tokens made by it", MAX_TOKENS, "revoke one with DELETE /tokens/<id>")
            await connection.execute(_FREE_NAME, token.parent_id, token.name)
            try:
                await connection.execute(_ADD, *_columns(token))
            except asyncpg.UniqueViolationError:
                reason = f"there is a token named {token.name}: revoke it first, or take another name"
                raise Rejected("NAME_TAKEN", reason) from None

    async def revoke(self, token_id: str) -> frozenset[str]:
        """Revoke a token, its descendants, and their webhooks; return the tokens' ids.

        `token_id` may be a built-in principal. Empty if nothing was valid.
        """
        async with acquire_within(self._pool) as connection, connection.transaction():
            await connection.execute(_ONE_AT_A_TIME)
            ended = frozenset(row["id"] for row in await connection.fetch(_REVOKE, token_id))
            await connection.execute(_DISABLE_WEBHOOKS, token_id)
        return ended

    async def ended_among(self, token_ids: Collection[str]) -> frozenset[str]:
        """Return which of these token ids are no longer valid."""
        async with acquire_within(self._pool) as connection:
            return frozenset(row["id"] for row in await connection.fetch(_ENDED_AMONG, list(token_ids)))

    async def disable_webhooks(self) -> None:
        """Disable webhooks whose token has ended and store the reason; they receive no deliveries in any case."""
        async with acquire_within(self._pool) as connection:
            await connection.execute(_DISABLE_WEBHOOKS, "")

    async def save_last_used(self, used: Mapping[str, datetime]) -> None:
        """Write down when tokens were used last."""
        async with acquire_within(self._pool) as connection:
            await connection.execute(_USED, list(used), list(used.values()))

    async def add_link(self, link_hash: bytes, token_id: str) -> None:
        """Save a login link for 15 minutes; delete expired ones.

        Raises HttpProblem: TOO_MANY_LINKS.
        """
        async with acquire_within(self._pool) as connection, connection.transaction():
            await connection.execute("LOCK TABLE ingress.logins IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute(_FORGET_LINKS)
            if await connection.fetchval(_COUNT_LINKS, token_id) >= MAX_LINKS:
                raise HttpProblem(
                    "TOO_MANY_LINKS",
                    f"this token has {MAX_LINKS} unused login links: use one, or wait until they expire",
                    headers={"retry-after": str(int(LINK_TTL.total_seconds()))},
                )
            await connection.execute(_ADD_LINK, link_hash, token_id, LINK_TTL)

    async def use_link(self, link_hash: bytes) -> str | None:
        """Use a login link up and return the id of the token that made it; None when it does not hold."""
        async with acquire_within(self._pool) as connection:
            return cast("str | None", await connection.fetchval(_USE_LINK, link_hash))

    async def end_session(self, token_id: str) -> None:
        """Remember that a session has ended for as long as its cookie could be good."""
        async with acquire_within(self._pool) as connection:
            await connection.execute(_END, token_id)
            await connection.execute(_FORGET_ENDED, SESSION_TTL)


def _columns(token: Token) -> tuple[Any, ...]:
    return (
        token.id,
        token.name,
        token.hash,
        sorted(token.scopes),
        list(token.prefixes),
        token.rate,
        token.created_at,
        token.created_by,
        token.parent_id,
        token.expires_at,
    )


def _token(row: Mapping[str, Any]) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        hash=row["hash"],
        scopes=frozenset(row["scopes"]),
        prefixes=tuple(row["places"]),
        rate=row["rate"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        parent_id=row["parent_id"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
    )


_LIVE = """
SELECT id, name, hash, scopes, places, rate, created_at, created_by, parent_id, expires_at, last_used_at
FROM ingress.tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
ORDER BY created_at, id
"""

_ONE_AT_A_TIME = "LOCK TABLE ingress.tokens IN SHARE ROW EXCLUSIVE MODE"
"""Else a token that is being made could be missed by the revocation of its maker, or be one too many."""

_HOLDS = f"SELECT {is_valid_sql('$1::text')}"

_COUNT = """
SELECT count(*) FROM ingress.tokens
WHERE parent_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
"""

_COUNT_LINKS = """
SELECT count(*) FROM ingress.logins WHERE token_id = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
"""

_FREE_NAME = """
UPDATE ingress.tokens SET revoked_at = expires_at
WHERE parent_id = $1 AND name = $2 AND revoked_at IS NULL AND expires_at <= clock_timestamp()
"""

_ADD = """
INSERT INTO ingress.tokens (id, name, hash, scopes, places, rate, created_at, created_by, parent_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

_REVOKE = """
WITH RECURSIVE line AS (
    SELECT $1::text AS id UNION SELECT made.id FROM ingress.tokens AS made JOIN line ON made.parent_id = line.id
)
UPDATE ingress.tokens AS token SET revoked_at = clock_timestamp()
FROM line WHERE token.id = line.id AND token.revoked_at IS NULL RETURNING token.id
"""

_DISABLE_WEBHOOKS = f"""
UPDATE ingress.webhooks SET
    enabled = false,
    last_error = 'the token ' || created_by || ', which made it, was revoked or has expired: make a new webhook'
WHERE enabled AND (token_id = $1::text OR NOT {is_valid_sql("token_id")})
"""  # noqa: S608

_ENDED_AMONG = f"SELECT asked.id FROM unnest($1::text[]) AS asked (id) WHERE NOT {is_valid_sql('asked.id')}"  # noqa: S608

_USED = """
UPDATE ingress.tokens AS mine SET last_used_at = greatest(mine.last_used_at, used.at)
FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at) WHERE mine.id = used.id
"""

_ADD_LINK = "INSERT INTO ingress.logins (hash, token_id, expires_at) VALUES ($1, $2, clock_timestamp() + $3::interval)"

_FORGET_LINKS = "DELETE FROM ingress.logins WHERE expires_at < clock_timestamp() - interval '1 day'"

_USE_LINK = """
UPDATE ingress.logins SET used_at = clock_timestamp()
WHERE hash = $1 AND used_at IS NULL AND expires_at > clock_timestamp() RETURNING token_id
"""

_END = "INSERT INTO ingress.sessions_ended (id) VALUES ($1) ON CONFLICT DO NOTHING"

_ENDED = "SELECT id FROM ingress.sessions_ended WHERE ended_at > clock_timestamp() - $1::interval"

_FORGET_ENDED = "DELETE FROM ingress.sessions_ended WHERE ended_at < clock_timestamp() - $1::interval"
