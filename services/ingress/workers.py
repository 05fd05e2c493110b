"""What the ingress does by the clock: it forgets old facts, and delivers new ones to webhooks."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

import httpx
import structlog
from prometheus_client import Counter

from services.ingress.adapters.deliveries import Outcome, Sender
from services.ingress.adapters.fact_table import FactTable
from services.ingress.adapters.feed import Feed
from services.ingress.adapters.limiter import Shares
from services.ingress.adapters.webhook_table import Claim, Undelivered, WebhookTable
from services.ingress.core.fact_rendering import told
from services.ingress.core.facts import Fact
from services.ingress.core.webhooks import wait_after
from services.ingress.settings import IngressSettings
from shared.errors import one_line
from shared.patience import is_outage

log = structlog.get_logger()

DELIVERIES = Counter("penstock_ingress_webhook_deliveries_total", "Deliveries to webhooks by how they ended.", ["how"])
FORGET_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.05
AT_A_TIME: Final = 16
TURN_SECONDS: Final = 20.0
"""After this long a webhook is released, with more to deliver or not, so that others are delivered."""


async def forget_old(facts: FactTable, kept: timedelta) -> None:
    """Forget facts that are older than `kept`, a few thousand at a time, for ever."""
    while True:
        forgotten = 0
        try:
            forgotten = await facts.forget(kept)
        except Exception as error:
            if not is_outage(error):
                log.exception("facts.not_forgotten", reason=one_line(error))
        await asyncio.sleep(PAUSE_SECONDS if forgotten else FORGET_SECONDS)


@dataclass
class Deliverer:
    """Delivers facts to webhooks, many webhooks beside each other, each in order."""

    hooks: WebhookTable
    feed: Feed
    sender: Sender
    settings: IngressSettings
    _busy: set[asyncio.Task[None]] = field(default_factory=set)
    _shares: Shares = field(default_factory=lambda: Shares(AT_A_TIME))

    async def run(self) -> None:
        """Deliver for ever."""
        try:
            while True:
                news = self.feed.news()
                await _unless_away(self._take)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await news.wait()
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            for task in self._busy:
                task.cancel()
            await asyncio.gather(*self._busy, return_exceptions=True)

    async def _take(self) -> None:
        """Begin with the webhooks that are due, as many as there is room for and as the share of each maker allows."""
        while self._shares.free and (claim := await self.hooks.claim(self._shares.used_up())) is not None:
            maker = claim.hook.token_id
            self._shares.take(maker)
            task = asyncio.create_task(self._deliver(claim))
            self._busy.add(task)
            task.add_done_callback(partial(self._end, maker))

    def _end(self, maker: str, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._shares.give_back(maker)

    async def _deliver(self, claim: Claim) -> None:
        """Tell one webhook what there is to tell; another process goes on when this one cannot."""
        try:
            await _unless_away(lambda: self._tell(claim))
        finally:
            await _unless_away(lambda: self.hooks.release(claim))

    async def _tell(self, claim: Claim) -> None:
        async with self.sender.client() as client:
            if await self._tell_again(claim, client):
                await _Round(self, claim, client, claim.hook.failures).tell()

    async def _tell_again(self, claim: Claim, client: httpx.AsyncClient) -> bool:
        """Send once more what somebody wants to be sent once more."""
        for one in await self.hooks.wanted_again(claim):
            outcome = await self.sender.send(client, claim.hook.id, claim.hook.url, one.fact)
            count(outcome)
            if outcome.retry_after is not None:
                await self.wait(claim, claim.hook.failures, outcome)
                return False
            if not await self.hooks.settle(claim, one.seq, outcome.error):
                return False
        return True

    async def wait(self, claim: Claim, failures: int, outcome: Outcome) -> None:
        """Wait as the other side asks: that is no failure, and what waits comes first then."""
        seconds = outcome.retry_after or 0.0
        log.info("webhook.waits", webhook=claim.hook.id, seconds=seconds, reason=outcome.error)
        reason = f"{outcome.error} and asks to wait {seconds:g} s"
        await self.hooks.postpone(claim, failures, reason, timedelta(seconds=seconds))


@dataclass
class _Round:
    """One webhook's turn; ends when all is told, at a failure, or when the webhook is another's by now."""

    by: Deliverer
    claim: Claim
    client: httpx.AsyncClient
    failures: int

    async def tell(self) -> None:
        """Tell page after page."""
        cursor, ends = await self.by.feed.begin(self.claim.hook.cursor), time.monotonic() + TURN_SECONDS
        while page := await self.by.feed.page(cursor):
            for fact in page:
                if self.claim.hook.takes(fact) and not (await self._goes_on_after(fact) and time.monotonic() < ends):
                    return
            cursor = page[-1].seq
            if not await self.by.hooks.advance(self.claim, cursor, delivered=False):
                return

    async def _goes_on_after(self, fact: Fact) -> bool:
        """Deliver a fact; tell whether the next one may follow."""
        hook, hooks, settings = self.claim.hook, self.by.hooks, self.by.settings
        outcome = await self.by.sender.send(self.client, hook.id, hook.url, told(fact))
        count(outcome)
        if outcome.error is None:
            self.failures = 0
            return await hooks.advance(self.claim, fact.seq, delivered=True)
        if outcome.retry_after is not None:
            await self.by.wait(self.claim, self.failures, outcome)
            return False
        self.failures += 1
        log.warning("webhook.failed", webhook=hook.id, seq=fact.seq, attempt=self.failures, reason=outcome.error)
        if outcome.gone:
            await hooks.disable(self.claim, "it answered 410: it wants no more")
            return False
        if self.failures < settings.webhook_attempts:
            wait = wait_after(self.failures, settings.webhook_wait_seconds)
            await hooks.postpone(self.claim, self.failures, outcome.error, wait)
            return False
        log.error("webhook.gave_up", webhook=hook.id, seq=fact.seq, attempts=self.failures)
        return await self._put_aside(fact, outcome.error)

    async def _put_aside(self, fact: Fact, error: str) -> bool:
        attempts, self.failures = self.failures, 0
        undelivered = Undelivered(fact.seq, told(fact), attempts, error, None, again=False)
        return await self.by.hooks.give_up(self.claim, undelivered)


def count(outcome: Outcome) -> None:
    """Count a delivery."""
    failed = "failed" if outcome.retry_after is None else "postponed"
    DELIVERIES.labels(failed if outcome.error else "taken").inc()


async def _unless_away(action: Callable[[], Awaitable[None]]) -> None:
    """Do `action`; what the database cannot do now is done at the next look, and any other failure is logged."""
    try:
        await action()
    except Exception as error:
        if not is_outage(error):
            log.exception("webhooks.failed", reason=one_line(error))
