"""`ingress.tokens`, `ingress.logins` and `ingress.sessions_ended`: what is kept of who may come in."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import asyncpg

from services.ingress.adapters.asking import asked
from services.ingress.core.sessions import LASTS
from services.ingress.core.tokens import Token
from shared.errors import Rejected
from shared.postgres import Pool

LINK_LASTS: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Kept:
    """What holds now: the live tokens, and the sessions that were ended before their time."""

    tokens: Collection[Token]
    ended: frozenset[str]


class TokenTable:
    """Questions to the database; every method raises an outage when it does not answer within seconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def kept(self) -> Kept:
        """Return everything that holds now."""
        async with asked(self._pool) as connection:
            tokens = await connection.fetch(_LIVE)
            ended = await connection.fetch(_ENDED, LASTS)
        return Kept([_token(dict(row)) for row in tokens], frozenset(row["id"] for row in ended))

    async def add(self, token: Token) -> None:
        """Keep a new token; a name is free again once its token was revoked or has expired.

        Raises Rejected: NAME_TAKEN.
        """
        async with asked(self._pool) as connection, connection.transaction():
            await connection.execute(_FREE_NAME, token.name)
            try:
                await connection.execute(_ADD, *_columns(token))
            except asyncpg.UniqueViolationError:
                reason = f"there is a token named {token.name}: revoke it first, or take another name"
                raise Rejected("NAME_TAKEN", reason) from None

    async def revoke(self, number: str) -> bool:
        """Let a token hold no longer; tell whether it did."""
        async with asked(self._pool) as connection:
            return await connection.fetchval(_REVOKE, number) is not None

    async def note_used(self, used: Mapping[str, datetime]) -> None:
        """Write down when tokens were used last."""
        async with asked(self._pool) as connection:
            await connection.execute(_USED, list(used), list(used.values()))

    async def add_link(self, hashed: bytes, token_id: str) -> None:
        """Keep a login link for a quarter of an hour; those that are over are forgotten."""
        async with asked(self._pool) as connection:
            await connection.execute(_FORGET_LINKS)
            await connection.execute(_ADD_LINK, hashed, token_id, LINK_LASTS)

    async def use_link(self, hashed: bytes) -> str | None:
        """Use a login link up and return the id of the token that made it; None when it does not hold."""
        async with asked(self._pool) as connection:
            return cast("str | None", await connection.fetchval(_USE_LINK, hashed))

    async def end_session(self, number: str) -> None:
        """Remember that a session has ended for as long as its cookie could be good."""
        async with asked(self._pool) as connection:
            await connection.execute(_END, number)
            await connection.execute(_FORGET_ENDED, LASTS)


def _columns(token: Token) -> tuple[Any, ...]:
    return (
        token.id,
        token.name,
        token.hash,
        sorted(token.scopes),
        list(token.places),
        token.rate,
        token.created_at,
        token.created_by,
        token.expires_at,
    )


def _token(row: Mapping[str, Any]) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        hash=row["hash"],
        scopes=frozenset(row["scopes"]),
        places=tuple(row["places"]),
        rate=row["rate"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
    )


_LIVE = """
SELECT id, name, hash, scopes, places, rate, created_at, created_by, expires_at, last_used_at
FROM ingress.tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
ORDER BY created_at, id
"""

_FREE_NAME = """
UPDATE ingress.tokens SET revoked_at = expires_at
WHERE name = $1 AND revoked_at IS NULL AND expires_at <= clock_timestamp()
"""

_ADD = """
INSERT INTO ingress.tokens (id, name, hash, scopes, places, rate, created_at, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

_REVOKE = """
UPDATE ingress.tokens SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL RETURNING id
"""

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
