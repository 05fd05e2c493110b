"""Changes in, digests out: small objects at once, many in flight; large ones become leased work."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from prometheus_client import Counter

from services.hasher.adapters.ledger import DigestLedger
from services.hasher.adapters.objects import Objects
from services.hasher.core import verdicts
from services.hasher.core.verdicts import Place, Remembered, Row, Task
from services.hasher.settings import HasherSettings
from shared.bus import Received, Router
from shared.errors import Kind, Rejected, kind_of
from shared.events import ObjectChanged, ObjectHashed
from shared.middleware.retry import RecordRetries
from shared.work import WorkQueue

log = structlog.get_logger()
router = Router("hasher")

DIGESTED = Counter("penstock_hasher_versions_total", "Stored versions by what became of them.", ["status"])
BYTES = Counter("penstock_hasher_bytes_total", "Bytes of the objects that were read and digested.")
MISMATCHES = Counter("penstock_hasher_mismatches_total", "Objects whose digest is not the one their uploader declared.")

Batch = Sequence[Received[ObjectChanged]]


@router.on(ObjectChanged, publishes=[ObjectHashed])
async def hash_objects(batch: Batch, hashing: "Hashing") -> list[ObjectHashed]:
    """Digest every stored version once; removed and already known versions need no reading."""
    stored = verdicts.newest(received.event for received in batch)
    known = await hashing.ledger.recall(stored)
    rows, tasks = _sort(batch, stored, known, hashing.settings)
    small, large = hashing.split(tasks)
    rows += await hashing.digest_all(small)
    _reject_failed(batch, rows)
    facts = await hashing.conclude(rows)
    await hashing.postpone(large)
    await hashing.ledger.remove([one.event for one in batch if one.event.change == "removed"])
    return facts


def _sort(
    batch: Batch,
    stored: Mapping[Place, ObjectChanged],
    known: Mapping[Place, Remembered],
    settings: HasherSettings,
) -> tuple[list[Row], list[Task]]:
    """Part what needs no reading from what does; a wish nobody can meet is a failed row."""
    rows, tasks = [], []
    for received in batch:
        change, place = received.event, verdicts.place_of(received.event)
        if stored.get(place) is not change or verdicts.is_outdated(change, known.get(place)):
            continue
        try:
            task = verdicts.task_of(change, settings.hasher_digests)
        except Rejected as refusal:
            rows.append(Row(change, "failed", failure=refusal))
            continue
        if (reused := verdicts.reusable(task, known.get(place))) is not None:
            rows.append(reused)
        else:
            tasks.append(task)
    return rows, tasks


def _reject_failed(batch: Batch, rows: Sequence[Row]) -> None:
    """Put what could not be digested among the dead letters too: from there it is sent back once the cause is gone."""
    failures = {id(row.change): row.failure for row in rows}
    for received in batch:
        if (failure := failures.get(id(received.event))) is not None:
            received.reject(failure)


@dataclass(frozen=True, slots=True)
class Hashing:
    """What both ways of hashing share: the ledger, the objects, the work, and how a result is concluded."""

    ledger: DigestLedger
    objects: Objects
    queue: WorkQueue
    settings: HasherSettings

    def split(self, tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
        """Part tasks into small and large; a delay makes every task one that takes long."""
        limit = -1 if self.settings.hasher_delay else self.settings.hasher_large_bytes
        return [one for one in tasks if one.size <= limit], [one for one in tasks if one.size > limit]

    async def digest_all(self, tasks: Sequence[Task]) -> list[Row]:
        """Digest small objects, so many at a time as the settings say."""
        rows: list[Row] = []
        waiting = iter(tasks)

        async def work_on() -> None:
            rows.extend([await self._digest(task) for task in waiting])

        async with asyncio.TaskGroup() as crew:
            for _ in range(min(len(tasks), self.settings.hasher_small_in_flight)):
                crew.create_task(work_on())
        return rows

    async def _digest(self, task: Task) -> Row:
        """Digest a small object; only an outage goes outward, everything else is this object's own row."""
        try:
            return await self.objects.digest_small(task)
        except Exception as error:
            if kind_of(error) is Kind.UNKNOWN:
                return await self._digest_again(task)
            if kind_of(error) is Kind.OUTAGE:
                raise
            return _failed(task, error)

    async def _digest_again(self, task: Task) -> Row:
        try:
            async for attempt in RecordRetries().unknowns():
                with attempt:
                    return await self.objects.digest_small(task)
        except Exception as error:
            if kind_of(error) is Kind.OUTAGE:
                raise
            return _failed(task, error)
        raise AssertionError  # unreachable: the last try raises

    async def conclude(self, rows: Sequence[Row]) -> list[ObjectHashed]:
        """Keep rows and return the facts to publish: those of versions nobody has replaced meanwhile."""
        if self.settings.hasher_delete_after:
            rows = [replace(row, kept=row.status == "succeeded") for row in rows]
        standing = await self.ledger.record(rows)
        done = [row for row in rows if verdicts.place_of(row.change) in standing]
        for row in done:
            _count(row)
        succeeded = [row for row in done if row.status == "succeeded"]
        if self.settings.hasher_delete_after:
            await asyncio.gather(*(self.objects.delete(row.change) for row in succeeded))
        return [verdicts.fact_of(row) for row in succeeded]

    async def postpone(self, tasks: Sequence[Task]) -> None:
        """Turn tasks into leased work, seen as pending until a worker takes them."""
        await self.ledger.record([Row(task.change, "pending") for task in tasks])
        for task in tasks:
            change = task.change
            name = f"{change.bucket}/{change.key}@{change.version_id or ''}#{change.etag}"
            await self.queue.add(name, change.model_dump(mode="json"), correlation_id=change.correlation_id)


def _failed(task: Task, error: Exception) -> Row:
    log.error("object.not_hashed", bucket=task.change.bucket, key=task.change.key, exc_info=error)
    return Row(task.change, "failed", failure=error)


def _count(row: Row) -> None:
    DIGESTED.labels(row.status).inc()
    if row.status == "succeeded":
        BYTES.inc(row.change.size or 0)
    if row.verification == "mismatch":
        MISMATCHES.inc()
        log.error(
            "digest.mismatch",
            bucket=row.change.bucket,
            key=row.change.key,
            algorithms=row.mismatched,
            correlation_id=row.change.correlation_id,
        )
