"""New facts for all streams and webhooks of this process: one LISTEN, and each page read once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Final, Protocol

import asyncpg
import structlog
from prometheus_client import Gauge
from pydantic import SecretStr

from services.ingress.adapters.fact_table import CHANNEL
from services.ingress.adapters.limiter import ConcurrencyLimiter
from services.ingress.core.facts import Fact
from shared import tls
from shared.errors import Outage, one_line
from shared.loops import periodically
from shared.postgres import CONNECT_SECONDS
from shared.wakeups import Wakeups

log = structlog.get_logger()

STREAMS = Gauge("penstock_ingress_streams", "Clients that follow the facts now.")
PAGE: Final = 100
IDLE_SECONDS: Final = 5.0
"""Interval of the liveness check: how long a silently broken connection can go unnoticed."""


class Facts(Protocol):
    """Where facts are read."""

    async def page(self, after: int, limit: int) -> list[Fact]:
        """Return the facts after `after`."""

    async def last(self) -> int:
        """Return the `seq` of the newest fact."""

    async def highest(self) -> int:
        """Return the highest `seq` ever assigned."""


class Feed:
    """Read pages of facts for many followers; followers at the same cursor share one query."""

    def __init__(self, facts: Facts, limiter: ConcurrencyLimiter) -> None:
        self._facts = facts
        self._limiter = limiter
        self._changed = asyncio.Event()
        self._reading: dict[int, asyncio.Task[list[Fact]]] = {}
        self.is_closed = False

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._limiter.held

    async def start_cursor(self, after: int | None) -> int:
        """Return the cursor to start from: `after`, or the newest fact.

        A cursor above every assigned `seq` belongs to a lost table, so reading starts from the beginning.
        """
        if after is None:
            return await self._facts.last()
        return after if after <= await self._facts.highest() else 0

    async def page(self, after: int) -> Sequence[Fact]:
        """Return some facts after `after`; empty if there are none.

        Raises Outage: Postgres is away.
        """
        reading = self._reading.get(after)
        if reading is None:
            # in an own context: the page is read for all streams and counts for no client's limit
            reading = self._reading[after] = asyncio.create_task(self._facts.page(after, PAGE), context=Context())
            reading.add_done_callback(lambda done: self._forget(after, done))
        return await asyncio.shield(reading)

    def next_change(self) -> asyncio.Event:
        """Return the event that the next change sets; take it before reading a page, so that no change is missed."""
        return self._changed

    def notify(self) -> None:
        """Wake every follower."""
        waited_for, self._changed = self._changed, asyncio.Event()
        waited_for.set()

    def close(self) -> None:
        """Close the feed and end every stream."""
        self.is_closed = True
        self.notify()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Hold the permit of a stream while it lasts.

        Raises Problem: SHARE_USED_UP, TOO_MANY_STREAMS.
        """
        async with self._limiter.hold():
            with STREAMS.track_inprogress():
                yield

    async def listen(self, dsn: SecretStr) -> None:
        """Listen for new facts until cancelled; reconnect after every error."""
        await periodically(lambda: self._listen(dsn), IDLE_SECONDS, event="facts.not_heard", survives=Exception)

    async def _listen(self, dsn: SecretStr) -> None:
        try:
            connection = await asyncpg.connect(
                dsn.get_secret_value(),
                timeout=CONNECT_SECONDS,
                server_settings={"application_name": "penstock-ingress-listen"},
            )
        except OSError as error:
            raise Outage(f"Postgres does not answer: {tls.describe_failure(error) or one_line(error)}") from error
        try:
            wakeups = Wakeups(self.notify)
            await connection.add_listener(CHANNEL, lambda *_: wakeups.notify())
            while True:
                self.notify()  # facts that arrived before LISTEN
                await asyncio.sleep(IDLE_SECONDS)
                await connection.execute("SELECT 1", timeout=CONNECT_SECONDS)
        finally:
            connection.terminate()

    def _forget(self, after: int, done: asyncio.Task[list[Fact]]) -> None:
        self._reading.pop(after, None)
        if not done.cancelled():
            done.exception()  # mark as retrieved: every waiter got it from its own await
