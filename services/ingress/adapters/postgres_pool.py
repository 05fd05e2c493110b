"""Questions to Postgres that somebody waits for: answered soon, or an outage."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Final

from services.ingress.adapters.limiter import ConcurrencyLimiter
from shared.errors import Outage
from shared.postgres import Connection, Pool

QUERY_SECONDS: Final = 3.0
_LIMITERS: Final[dict[int, ConcurrencyLimiter]] = {}
"""By the id of a pool of connections: asyncpg's pools take no attribute, and no weak reference."""


@contextmanager
def share_connections(pool: Pool, limiter: ConcurrencyLimiter) -> Iterator[None]:
    """Let `asked` share the connections of a pool among clients, inside the block."""
    _LIMITERS[id(pool)] = limiter
    try:
        yield
    finally:
        del _LIMITERS[id(pool)]


@asynccontextmanager
async def acquire_within(pool: Pool, *, seconds: float = QUERY_SECONDS) -> AsyncIterator[Connection]:
    """Give a connection for so many seconds; then it is an Outage.

    Raises Problem: SHARE_USED_UP when the client of this request has too many of them already.
    """
    limiter = _LIMITERS.get(id(pool))
    try:
        async with (
            limiter.hold() if limiter else nullcontext(),
            asyncio.timeout(seconds),
            pool.acquire() as connection,
        ):
            yield connection
    except TimeoutError:
        raise Outage(f"Postgres does not answer within {seconds:g} s: try again later") from None
