"""Background work: delete old facts, and deliver new ones to webhooks."""

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
from services.ingress.adapters.webhook_table import Claim, FailedDelivery, WebhookTable
from services.ingress.core.fact_rendering import render_fact
from services.ingress.core.facts import Fact
from services.ingress.core.webhooks import retry_delay
from services.ingress.settings import IngressSettings
from shared.errors import one_line
from shared.loops import periodically
from shared.outages import is_outage

log = structlog.get_logger()

DELIVERIES = Counter("penstock_ingress_webhook_deliveries_total", "Deliveries to webhooks by how they ended.", ["how"])
DELETE_INTERVAL_SECONDS: Final = 60.0
POLL_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.05
MAX_CONCURRENT: Final = 16
MAX_RUN_SECONDS: Final = 20.0
"""After this long a webhook is released, with more to deliver or not, so that others are delivered."""


async def delete_old_facts(facts: FactTable, retention: timedelta) -> None:
    """Delete facts older than `retention` in batches, until cancelled."""

    async def delete_batch() -> float | None:
        return PAUSE_SECONDS if await facts.delete_older_than(retention) else None

    await periodically(delete_batch, DELETE_INTERVAL_SECONDS, event="facts.not_forgotten", survives=Exception)


@dataclass
class Deliverer:
    """Deliver facts to webhooks: concurrently across webhooks, in order within each."""

    hooks: WebhookTable
    feed: Feed
    sender: Sender
    settings: IngressSettings
    _busy: set[asyncio.Task[None]] = field(default_factory=set)
    _shares: Shares = field(default_factory=lambda: Shares(MAX_CONCURRENT))

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                changed = self.feed.next_change()
                await _ignore_outages(self._claim_due)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await changed.wait()
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            for task in self._busy:
                task.cancel()
            await asyncio.gather(*self._busy, return_exceptions=True)

    async def _claim_due(self) -> None:
        """Claim due webhooks, as far as slots and each owner's share allow."""
        while self._shares.free and (claim := await self.hooks.claim(self._shares.exhausted_clients())) is not None:
            maker = claim.hook.token_id
            self._shares.acquire(maker)
            task = asyncio.create_task(self._deliver(claim))
            self._busy.add(task)
            task.add_done_callback(partial(self._end, maker))

    def _end(self, maker: str, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._shares.release(maker)

    async def _deliver(self, claim: Claim) -> None:
        """Deliver to one webhook; after an error another process continues."""
        try:
            await _ignore_outages(lambda: self._deliver_all(claim))
        finally:
            await _ignore_outages(lambda: self.hooks.release(claim))

    async def _deliver_all(self, claim: Claim) -> None:
        async with self.sender.client() as client:
            if await self._resend(claim, client):
                await DeliveryRun(self, claim, client, claim.hook.failures).run()

    async def _resend(self, claim: Claim, client: httpx.AsyncClient) -> bool:
        """Send failed deliveries again that were requested through the API."""
        for failed in await self.hooks.pending_retries(claim):
            outcome = await self.sender.send(client, claim.hook.id, claim.hook.url, failed.fact)
            count_delivery(outcome)
            if outcome.retry_after is not None:
                await self.wait(claim, claim.hook.failures, outcome)
                return False
            if not await self.hooks.resolve_retry(claim, failed.seq, outcome.error):
                return False
        return True

    async def wait(self, claim: Claim, failures: int, outcome: Outcome) -> None:
        """Postpone as Retry-After requests; this is not a failure, and pending retries come first."""
        seconds = outcome.retry_after or 0.0
        log.info("webhook.waits", webhook=claim.hook.id, seconds=seconds, reason=outcome.error)
        reason = f"{outcome.error} and asks to wait {seconds:g} s"
        await self.hooks.postpone(claim, failures, reason, timedelta(seconds=seconds))


@dataclass
class DeliveryRun:
    """One run of deliveries to a webhook; ends without news, at a failure, or when the lease is lost."""

    by: Deliverer
    claim: Claim
    client: httpx.AsyncClient
    failures: int

    async def run(self) -> None:
        """Deliver page after page."""
        cursor, ends = await self.by.feed.start_cursor(self.claim.hook.cursor), time.monotonic() + MAX_RUN_SECONDS
        while page := await self.by.feed.page(cursor):
            for fact in page:
                if self.claim.hook.matches(fact) and not (await self._deliver_fact(fact) and time.monotonic() < ends):
                    return
            cursor = page[-1].seq
            if not await self.by.hooks.advance(self.claim, cursor, delivered=False):
                return

    async def _deliver_fact(self, fact: Fact) -> bool:
        """Deliver a fact; return whether to continue."""
        hook, hooks, settings = self.claim.hook, self.by.hooks, self.by.settings
        outcome = await self.by.sender.send(self.client, hook.id, hook.url, render_fact(fact))
        count_delivery(outcome)
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
            wait = retry_delay(self.failures, settings.webhook_wait_seconds)
            await hooks.postpone(self.claim, self.failures, outcome.error, wait)
            return False
        log.error("webhook.gave_up", webhook=hook.id, seq=fact.seq, attempts=self.failures)
        return await self._skip(fact, outcome.error)

    async def _skip(self, fact: Fact, error: str) -> bool:
        attempts, self.failures = self.failures, 0
        undelivered = FailedDelivery(fact.seq, render_fact(fact), attempts, error, None, again=False)
        return await self.by.hooks.skip_failed(self.claim, undelivered)


def count_delivery(outcome: Outcome) -> None:
    """Count a delivery."""
    failed = "failed" if outcome.retry_after is None else "postponed"
    DELIVERIES.labels(failed if outcome.error else "taken").inc()


async def _ignore_outages(action: Callable[[], Awaitable[None]]) -> None:
    """Call `action`; ignore outages until the next poll, and log other errors."""
    try:
        await action()
    except Exception as error:
        if not is_outage(error):
            log.exception("webhooks.failed", reason=one_line(error))
