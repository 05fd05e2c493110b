"""Postgres connections for requests: acquired within seconds, else an outage."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Final

from services.ingress.adapters.limiter import ConcurrencyLimiter
from shared.errors import Outage
from shared.postgres import Connection, Pool

QUERY_SECONDS: Final = 3.0
_LIMITERS: Final[dict[int, ConcurrencyLimiter]] = {}
"""By id() of a connection pool: asyncpg's pools take no attribute and no weak reference."""


@contextmanager
def share_connections(pool: Pool, limiter: ConcurrencyLimiter) -> Iterator[None]:
    """Limit how many connections of `pool` one client may hold in `acquire_within`, inside the block."""
    _LIMITERS[id(pool)] = limiter
    try:
        yield
    finally:
        del _LIMITERS[id(pool)]


@asynccontextmanager
async def acquire_within(pool: Pool, *, seconds: float = QUERY_SECONDS) -> AsyncIterator[Connection]:
    """Yield a connection; raise Outage if the block takes longer than `seconds`."""
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
