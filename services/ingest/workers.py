"""What ingest does by the clock or at length: sweeps, doubts that came due, limits and rules that must stand."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter

from services.ingest.adapters.bucket import Bucket
from services.ingest.adapters.memory import Memory
from services.ingest.adapters.readers import end_overdue
from services.ingest.core import decisions, sweeps
from services.ingest.handlers import Merger, read, sort_truths
from services.ingest.settings import IngestSettings
from shared.bus import Bus, Received
from shared.errors import Kind, kind_of, one_line, require_input_bucket
from shared.events import ObjectChanged, SweepCompleted
from shared.middleware.records import Record
from shared.outages import is_outage, retry_outages
from shared.postgres import Pool
from shared.work import Lease, WorkQueue

log = structlog.get_logger()

FOUND = Counter(
    "penstock_sweep_found_total", "What sweeps found that no notification had told: lost or late.", ["what"]
)
KNOWN_PER_STEP = 1000
DOUBTS_EVERY = 2.0
WATCH_EVERY = 2.0
FIRST_MOMENTS = 10.0
"""Seconds after its return in which MinIO was seen to acknowledge objects without telling anybody."""
NOBODYS_KEY = ".penstock/are-you-there"
POSTPONE_SECONDS = 60.0
"""Between two looks at an object that cannot be looked at while the store serves others."""
START_SLOT = 60.0
READERS_EVERY = 5.0


@dataclass(slots=True)
class _Tally:
    listed: int = 0
    missed: int = 0
    vanished: int = 0
    retold: int = 0


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Compares buckets with memory and tells what was missed."""

    memory: Memory
    bucket: Bucket
    bus: Bus
    queue: WorkQueue
    settings: IngestSettings

    async def sweep(self, lease: Lease) -> None:
        """Do one sweep; taken over after a crash it starts again, which finds only what is still untold."""
        item, started, tally = lease.item, time.monotonic(), _Tally()
        buckets = tuple(dict.fromkeys(item.payload["buckets"])) or self.settings.input_buckets
        prefix: str = item.payload["prefix"]
        await self.memory.begin_sweep(item.key, buckets, prefix)
        refused = [error for bucket in buckets if (error := await self._sweep_if_there(lease, bucket, tally))]
        if refused:
            raise refused[0]
        done = SweepCompleted(
            sweep_id=item.key,
            buckets=buckets,
            prefix=prefix,
            listed=tally.listed,
            missed=tally.missed,
            vanished=tally.vanished,
            retold=tally.retold,
            seconds=round(time.monotonic() - started, 3),
            correlation_id=item.correlation_id,
        )
        await self.memory.finish_sweep(done)
        await self.bus.publish([done])
        log.info(
            "sweep.completed",
            **done.model_dump(include={"sweep_id", "listed", "missed", "vanished", "retold", "seconds"}),
        )

    async def _sweep_if_there(self, lease: Lease, bucket: str, tally: _Tally) -> Exception | None:
        """Sweep a bucket, or return why it cannot be swept: that keeps no other bucket from being swept."""
        try:
            require_input_bucket(bucket, self.settings.input_buckets)
            await self._sweep_bucket(lease, bucket, tally)
        except Exception as error:
            if kind_of(error) is Kind.UNKNOWN:
                raise
            if kind_of(error) is Kind.OUTAGE:
                await self.bucket.check()
            log.warning("sweep.refused", bucket=bucket, reason=one_line(error))
            return error
        return None

    async def _sweep_bucket(self, lease: Lease, bucket: str, tally: _Tally) -> None:
        prefix, grace = lease.item.payload["prefix"], lease.item.payload["grace"]
        settled_before = datetime.now(UTC) - timedelta(seconds=grace) if grace else datetime.max.replace(tzinfo=UTC)
        after = ""
        async for page in self.bucket.pages(bucket, prefix):
            tally.listed += len(page)
            known, _ = await self.memory.recall((bucket, key) for key in page)
            mine = {key: state for (_, key), state in known.items()}
            keys = sweeps.missed(page, mine, settled_before=settled_before)
            tally.missed += await self._tell(lease, await self.bucket.describe(bucket, keys))
            if lease.item.payload.get("retell"):
                tally.retold += await self._retell(bucket, sorted(mine.keys() - set(keys)))
            last = next(reversed(page))
            tally.vanished += await self._tell_gone(lease, bucket, set(page), after=after, upto=last)
            after = last
            lease.report({"bucket": bucket, "listed": tally.listed})
        tally.vanished += await self._tell_gone(lease, bucket, set(), after=after, upto=None)

    async def _tell_gone(self, lease: Lease, bucket: str, there: set[str], *, after: str, upto: str | None) -> int:
        told, prefix = 0, lease.item.payload["prefix"]
        while known := await self.memory.known_between(bucket, prefix, after=after, upto=upto, limit=KNOWN_PER_STEP):
            told += await self._tell(lease, [sweeps.gone(bucket, key) for key in known if key not in there])
            after = next(reversed(known))
        return told

    async def _tell(self, lease: Lease, notices: list[ObjectChanged]) -> int:
        """Tell what the bucket confirms; return how much that was."""
        if not notices:
            return 0
        async with self.memory.telling(alone=True):
            known, clock = await self.memory.recall(map(decisions.place_of, notices))
            truths, stuck = sort_truths(await self.bucket.truths(notices))
            judged = [one for one in notices if decisions.place_of(one) not in stuck]
            outcome = decisions.judge(judged, known, truths, clock=clock)
            await self.bus.publish(outcome.facts)
            await self.memory.remember(outcome, sweep_id=lease.item.key)
        for fact in outcome.facts:
            FOUND.labels(fact.change).inc()
            log.warning("sweep.found", change=fact.change, bucket=fact.bucket, key=fact.key)
        return len(outcome.facts)

    async def _retell(self, bucket: str, keys: list[str]) -> int:
        """Tell known objects again, as they stand and under their own revisions; return how many those were."""
        known, _ = await self.memory.recall((bucket, key) for key in keys)
        notices = await self.bucket.describe(bucket, keys)
        facts = [one for one in (decisions.retold(known, notice) for notice in notices) if one is not None]
        await self.bus.publish(facts)
        return len(facts)

    async def schedule(self) -> None:
        """Put sweeps among the work, at start and by the interval; several processes agree on one by its name."""
        if self.settings.sweep_at_start:
            await self._add("start", START_SLOT, grace=self.settings.sweep_grace)
        while self.settings.sweep_interval:
            await asyncio.sleep(self.settings.sweep_interval - time.time() % self.settings.sweep_interval)
            await self._add("scheduled", self.settings.sweep_interval, grace=self.settings.sweep_grace)

    async def sweep_after_outages(self) -> None:
        """Sweep once the object store is back: what it takes in its first moments may reach no lane."""
        while self.settings.sweep_interval:
            await asyncio.sleep(WATCH_EVERY)
            if await self._is_away():
                await retry_outages(self._ask, event="store.away")
                log.info("store.back")
                await asyncio.sleep(self.settings.sweep_grace + FIRST_MOMENTS)
                await self._add("returned", START_SLOT, grace=self.settings.sweep_grace)

    async def _is_away(self) -> bool:
        try:
            await self._ask()
        except Exception as error:  # noqa: BLE001 - whatever else it answers, it answers
            return is_outage(error)
        return False

    async def _ask(self) -> None:
        await self.bucket.describe(self.settings.input_buckets[0], [NOBODYS_KEY])

    async def _add(self, why: str, slot: float, *, grace: float) -> None:
        name = f"{why}-{int(time.time() // slot)}"
        payload = {"buckets": [], "prefix": "", "grace": grace}
        await retry_outages(lambda: self.queue.add(name, payload))


@dataclass(frozen=True, slots=True)
class Doubts:
    """Decides for ever what came due: told meanwhile, there after all, or a dead letter."""

    memory: Memory
    merger: Merger
    bus: Bus

    async def settle(self) -> None:
        """Look for due doubts for ever."""
        while True:
            await retry_outages(self._settle_due)
            await asyncio.sleep(DOUBTS_EVERY)

    async def _settle_due(self) -> None:
        for record in await self.memory.due_doubts():
            try:
                refusal = await self._last_word(record)
            except Exception as error:  # noqa: BLE001 - an outage, of this object or of everything
                await self.merger.bucket.check()
                log.warning("doubt.postponed", topic=record.topic, offset=record.offset, reason=one_line(error))
                await self.memory.postpone(record, POSTPONE_SECONDS)
                continue
            if refusal is not None:
                await self.bus.dead_letter(record, refusal)
            await self.memory.settle(record)

    async def _last_word(self, record: Record) -> Exception | None:
        """Return why the record is refused for good; any failure but an outage is the record's own."""
        received = Received(read(record), record)
        try:
            await self.merger.merge([received], last_word=True)
        except Exception as error:
            if kind_of(error) is Kind.OUTAGE:
                raise
            return error
        return received.rejection


async def limit_readers(pool: Pool) -> None:
    """End overdue sessions of tools that read, for ever."""
    while True:
        if ended := await retry_outages(lambda: end_overdue(pool)):
            log.warning("readers.ended", sessions=ended)
        await asyncio.sleep(READERS_EVERY)


async def apply_rules(settings: IngestSettings) -> None:
    """See once that the notification rules stand; somebody may have made a bucket again without them.

    A process of its own does it, for what it needs (aiobotocore, 45 MiB) nobody else here does.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shared.provision", *settings.input_buckets, stdout=PIPE, stderr=PIPE
    )
    said, refused = await child.communicate()
    for change in said.decode().splitlines():
        log.warning("rules.applied", change=change)
    if child.returncode:
        log.error("rules.not_applied", reason=refused.decode().strip())
