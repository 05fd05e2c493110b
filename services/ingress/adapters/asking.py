"""Questions to Postgres that somebody waits for: answered soon, or an outage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from shared.errors import Outage
from shared.postgres import Connection, Pool

SECONDS: Final = 3.0


@asynccontextmanager
async def asked(pool: Pool, *, seconds: float = SECONDS) -> AsyncIterator[Connection]:
    """Give a connection for so many seconds, the wait for it included; then it is an Outage."""
    try:
        async with asyncio.timeout(seconds), pool.acquire() as connection:
            yield connection
    except TimeoutError:
        raise Outage(f"Postgres does not answer within {seconds:g} s: try again later") from None
