"""Background work of ingest: sweeps, pending verifications, reader limits and notification rules."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter

from services.ingest.adapters.bucket import Bucket
from services.ingest.adapters.known_objects import KnownObjects
from services.ingest.adapters.readers import end_overdue
from services.ingest.core import decisions, sweeps
from services.ingest.merging import Merger, decode_record, split_answers
from services.ingest.settings import IngestSettings
from shared.bus import Bus, Received
from shared.errors import Kind, kind_of, one_line, require_input_bucket
from shared.events import ObjectChanged, SweepCompleted
from shared.loops import periodically
from shared.middleware.records import Record
from shared.outages import is_outage, retry_outages
from shared.postgres import Pool
from shared.work import Lease, WorkQueue

log = structlog.get_logger()

FOUND = Counter(
    "penstock_sweep_found_total", "Changes that sweeps found before any notification: lost or late.", ["what"]
)
KNOWN_PAGE_SIZE = 1000
VERIFY_POLL_SECONDS = 2.0
WATCH_POLL_SECONDS = 2.0
RECOVERY_SECONDS = 10.0
"""Seconds after a restart in which MinIO acknowledges objects without sending notifications (measured)."""
PROBE_KEY = ".penstock/are-you-there"
POSTPONE_SECONDS = 60.0
"""Seconds between two HEADs of an object that is unreadable while the store serves others."""
START_INTERVAL = 60.0
READERS_POLL_SECONDS = 5.0


@dataclass(slots=True)
class _Counts:
    listed: int = 0
    missed: int = 0
    vanished: int = 0
    republished: int = 0


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Compares buckets with the known objects and publishes what was missed."""

    known_objects: KnownObjects
    bucket: Bucket
    bus: Bus
    queue: WorkQueue
    settings: IngestSettings

    async def sweep(self, lease: Lease) -> None:
        """Do one sweep. After a crash another worker restarts it, which finds only unpublished changes."""
        item, started, counts = lease.item, time.monotonic(), _Counts()
        buckets = tuple(dict.fromkeys(item.payload["buckets"])) or self.settings.input_buckets
        prefix: str = item.payload["prefix"]
        await self.known_objects.start_sweep(item.key, buckets, prefix)
        errors = [error for bucket in buckets if (error := await self._try_sweep_bucket(lease, bucket, counts))]
        if errors:
            raise errors[0]
        done = SweepCompleted(
            sweep_id=item.key,
            buckets=buckets,
            prefix=prefix,
            listed=counts.listed,
            missed=counts.missed,
            vanished=counts.vanished,
            retold=counts.republished,
            seconds=round(time.monotonic() - started, 3),
            correlation_id=item.correlation_id,
        )
        await self.known_objects.finish_sweep(done)
        await self.bus.publish([done])
        log.info(
            "sweep.completed",
            **done.model_dump(include={"sweep_id", "listed", "missed", "vanished", "retold", "seconds"}),
        )

    async def _try_sweep_bucket(self, lease: Lease, bucket: str, counts: _Counts) -> Exception | None:
        """Sweep a bucket, or return the error, so that the other buckets are swept all the same."""
        try:
            require_input_bucket(bucket, self.settings.input_buckets)
            await self._sweep_bucket(lease, bucket, counts)
        except Exception as error:
            if kind_of(error) is Kind.UNKNOWN:
                raise
            if kind_of(error) is Kind.OUTAGE:
                await self.bucket.check()
            log.warning("sweep.refused", bucket=bucket, reason=one_line(error))
            return error
        return None

    async def _sweep_bucket(self, lease: Lease, bucket: str, counts: _Counts) -> None:
        prefix, grace = lease.item.payload["prefix"], lease.item.payload["grace"]
        settled_before = datetime.now(UTC) - timedelta(seconds=grace) if grace else datetime.max.replace(tzinfo=UTC)
        after = ""
        async for page in self.bucket.list_pages(bucket, prefix):
            counts.listed += len(page)
            known, _ = await self.known_objects.get((bucket, key) for key in page)
            known_by_key = {key: state for (_, key), state in known.items()}
            keys = sweeps.find_missed(page, known_by_key, settled_before=settled_before)
            counts.missed += await self._publish_confirmed(lease, await self.bucket.describe(bucket, keys))
            if lease.item.payload.get("retell"):
                counts.republished += await self._republish(bucket, sorted(known_by_key.keys() - set(keys)))
            last = next(reversed(page))
            counts.vanished += await self._publish_removals(lease, bucket, set(page), after=after, upto=last)
            after = last
            lease.report({"bucket": bucket, "listed": counts.listed})
        counts.vanished += await self._publish_removals(lease, bucket, set(), after=after, upto=None)

    async def _publish_removals(
        self, lease: Lease, bucket: str, listed: set[str], *, after: str, upto: str | None
    ) -> int:
        published, prefix = 0, lease.item.payload["prefix"]
        while known := await self.known_objects.list_stored(
            bucket, prefix, after=after, upto=upto, limit=KNOWN_PAGE_SIZE
        ):
            published += await self._publish_confirmed(
                lease, [sweeps.removal_of(bucket, key) for key in known if key not in listed]
            )
            after = next(reversed(known))
        return published

    async def _publish_confirmed(self, lease: Lease, notifications: list[ObjectChanged]) -> int:
        """Publish the changes that the bucket confirms; return their number."""
        if not notifications:
            return 0
        async with self.known_objects.publishing(exclusive=True):
            known, clock = await self.known_objects.get(map(decisions.object_key_of, notifications))
            current_states, unreadable = split_answers(await self.bucket.current_states(notifications))
            readable = [one for one in notifications if decisions.object_key_of(one) not in unreadable]
            outcome = decisions.decide_all(readable, known, current_states, clock=clock)
            await self.bus.publish(outcome.facts)
            await self.known_objects.save(outcome, sweep_id=lease.item.key)
        for fact in outcome.facts:
            FOUND.labels(fact.change).inc()
            log.warning("sweep.found", change=fact.change, bucket=fact.bucket, key=fact.key)
        return len(outcome.facts)

    async def _republish(self, bucket: str, keys: list[str]) -> int:
        """Republish known objects under their own revisions; return their number."""
        known, _ = await self.known_objects.get((bucket, key) for key in keys)
        notifications = await self.bucket.describe(bucket, keys)
        facts = [
            one
            for one in (decisions.rebuild_fact(known, notification) for notification in notifications)
            if one is not None
        ]
        await self.bus.publish(facts)
        return len(facts)

    async def schedule(self) -> None:
        """Enqueue sweeps at start and at the interval; the name makes several processes enqueue only one."""
        if self.settings.sweep_at_start:
            await self._add("start", START_INTERVAL, grace=self.settings.sweep_grace)
        while self.settings.sweep_interval:
            await asyncio.sleep(self.settings.sweep_interval - time.time() % self.settings.sweep_interval)
            await self._add("scheduled", self.settings.sweep_interval, grace=self.settings.sweep_grace)

    async def sweep_after_outages(self) -> None:
        """Sweep after each outage of the object store: it may send no notifications in its first seconds."""
        while self.settings.sweep_interval:
            await asyncio.sleep(WATCH_POLL_SECONDS)
            if await self._is_unavailable():
                await retry_outages(self._probe, event="store.unavailable")
                log.info("store.available")
                await asyncio.sleep(self.settings.sweep_grace + RECOVERY_SECONDS)
                await self._add("returned", START_INTERVAL, grace=self.settings.sweep_grace)

    async def _is_unavailable(self) -> bool:
        try:
            await self._probe()
        except Exception as error:  # noqa: BLE001 - any other error is an answer
            return is_outage(error)
        return False

    async def _probe(self) -> None:
        await self.bucket.describe(self.settings.input_buckets[0], [PROBE_KEY])

    async def _add(self, reason: str, interval: float, *, grace: float) -> None:
        name = f"{reason}-{int(time.time() // interval)}"
        payload = {"buckets": [], "prefix": "", "grace": grace}
        await retry_outages(lambda: self.queue.add(name, payload))


@dataclass(frozen=True, slots=True)
class PendingVerifications:
    """Verifies due notifications: published meanwhile, stored after all, or a dead letter."""

    known_objects: KnownObjects
    merger: Merger
    bus: Bus

    async def run(self) -> None:
        """Verify due notifications until cancelled."""
        await periodically(self._verify_due, VERIFY_POLL_SECONDS, event="verification.waiting")

    async def _verify_due(self) -> None:
        for record in await self.known_objects.due_pending():
            try:
                rejection = await self._verify(record)
            except Exception as error:  # noqa: BLE001 - an outage of this object or of the store
                await self.merger.bucket.check()
                log.warning("verification.postponed", topic=record.topic, offset=record.offset, reason=one_line(error))
                await self.known_objects.postpone_pending(record, POSTPONE_SECONDS)
                continue
            if rejection is not None:
                await self.bus.dead_letter(record, rejection)
            await self.known_objects.remove_pending(record)

    async def _verify(self, record: Record) -> Exception | None:
        """Return why the record is rejected, None if it is not. Raises only for an outage."""
        received = Received(decode_record(record), record)
        try:
            await self.merger.merge([received], final=True)
        except Exception as error:
            if kind_of(error) is Kind.OUTAGE:
                raise
            return error
        return received.rejection


async def limit_readers(pool: Pool) -> None:
    """End overdue sessions of read-only tools until cancelled."""

    async def end() -> None:
        if ended := await end_overdue(pool):
            log.warning("readers.ended", sessions=ended)

    await periodically(end, READERS_POLL_SECONDS, event="readers.not_ended")


async def apply_rules(settings: IngestSettings) -> None:
    """Apply the notification rules once: a bucket may have been recreated without them.

    Run it in a subprocess, because it loads aiobotocore (45 MiB), which this process does not need.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shared.provision", *settings.input_buckets, stdout=PIPE, stderr=PIPE
    )
    changes, errors = await child.communicate()
    for change in changes.decode().splitlines():
        log.warning("rules.applied", change=change)
    if child.returncode:
        log.error("rules.not_applied", reason=errors.decode().strip())
