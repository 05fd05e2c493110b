"""Pools of permits that all clients share, and of which no client may take all.

A client may take one more permit while it holds fewer than are free. One client alone gets half of a pool, the next one
half of the rest, and so on; as permits become free, waiting clients end up with equal shares. The rule is that of
dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6, 1998).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge

from services.ingress.core.problems import HttpProblem

CLIENT: Final[ContextVar[str]] = ContextVar("CLIENT", default="")
"""Whom limits count: set by the auth middleware for each request; empty is the service's own work."""
REFUSED: Final = Counter(
    "penstock_ingress_limited_total", "Requests refused for lack of a permit, by pool and reason.", ["pool", "reason"]
)
HELD: Final = Gauge("penstock_ingress_permits_held", "Permits of a pool that are held now.", ["pool"])


class Shares:
    """Count the permits of a pool that each client holds."""

    def __init__(self, permits: int) -> None:
        self.free = permits
        self._held: dict[str, int] = {}

    def held_by(self, client: str) -> int:
        """Return how many permits a client holds."""
        return self._held.get(client, 0)

    def allows(self, client: str) -> bool:
        """Return whether a client may acquire one more permit."""
        return self.held_by(client) < self.free

    def exhausted_clients(self) -> list[str]:
        """Return the clients that may acquire no more permits now."""
        return [client for client in self._held if not self.allows(client)]

    def acquire(self, client: str) -> None:
        """Assign a permit to a client; check `allows` first."""
        self.free -= 1
        self._held[client] = self.held_by(client) + 1

    def release(self, client: str) -> None:
        """Free a permit; remove clients that hold none."""
        self.free += 1
        if (left := self._held.pop(client) - 1) > 0:
            self._held[client] = left


@dataclass(frozen=True, slots=True)
class PermitPool:
    """The number of permits, how long a request waits for one (seconds), and how a refusal names the pool."""

    name: str
    permits: int
    seconds: float
    setting: str = ""
    code: str = "TOO_MANY_REQUESTS_AT_ONCE"

    @property
    def cause(self) -> str:
        """Return the setting that defines the number of permits, in parentheses; empty without one."""
        return f" ({self.setting})" if self.setting else ""


class ConcurrencyLimiter:
    """Grant the permits of a pool to requests."""

    def __init__(self, pool: PermitPool) -> None:
        self.pool = pool
        self._gauge = HELD.labels(pool.name)
        self._shares = Shares(pool.permits)
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def held(self) -> int:
        """How many permits are held now."""
        return self.pool.permits - self._shares.free

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold a permit for the client of this request; wait for one as long as the pool allows.

        Raises Problem: SHARE_USED_UP (429) when other clients could have one, else the pool's own code (503).
        """
        client = CLIENT.get()
        await self._acquire(client)
        try:
            with self._gauge.track_inprogress():
                yield
        finally:
            self._release(client)

    async def _acquire(self, client: str) -> None:
        if client not in self._waiting and self._shares.allows(client):
            self._shares.acquire(client)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(waiter)
        has_permit = False
        try:
            async with asyncio.timeout(self.pool.seconds):
                await waiter
            has_permit = True
        except TimeoutError:
            raise self._refusal(client) from None
        finally:
            if not has_permit:
                self._withdraw(client, waiter)

    def _release(self, client: str) -> None:
        self._shares.release(client)
        while self._waiting and (following := self._next()) is not None:
            waiter = self._pop_waiter(following)
            if not waiter.done():
                self._shares.acquire(following)
                waiter.set_result(None)

    def _next(self) -> str | None:
        """Return the waiting client that holds the fewest permits; of equals, the one that was served longest ago."""
        allowed = (client for client in self._waiting if self._shares.allows(client))
        return min(allowed, key=self._shares.held_by, default=None)

    def _pop_waiter(self, client: str) -> asyncio.Future[None]:
        waiters = self._waiting.pop(client)
        waiter = waiters.popleft()
        if waiters:
            self._waiting[client] = waiters
        return waiter

    def _withdraw(self, client: str, waiter: asyncio.Future[None]) -> None:
        """Take a request out of the queue that was cancelled or waited too long, maybe as it was served."""
        if waiter.done() and not waiter.cancelled():
            self._release(client)
        elif (waiters := self._waiting.get(client)) is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[client]

    def _refusal(self, client: str) -> HttpProblem:
        pool, held, is_full = self.pool, self._shares.held_by(client), not self._shares.free
        REFUSED.labels(pool.name, "full" if is_full else "share").inc()
        headers = {"retry-after": "5"}
        if is_full:
            detail = f"{pool.permits} {pool.name} are in progress, which is the limit{pool.cause}: try again later"
            return HttpProblem(pool.code, detail, headers=headers)
        detail = (
            f"{held} of {pool.permits} {pool.name} are in progress for this client, which is its share{pool.cause}: "
            "wait for some to end, or send fewer at a time"
        )
        return HttpProblem("SHARE_USED_UP", detail, headers=headers)
