"""Changes in, digests out: small objects at once, many in flight; large ones become leased work."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import stamina
import structlog
from prometheus_client import Counter

from services.hasher.adapters.ledger import DigestLedger
from services.hasher.adapters.objects import Large, Objects
from services.hasher.core import verdicts
from services.hasher.core.verdicts import Place, Remembered, Row
from services.hasher.settings import HasherSettings
from shared.bus import Received, Router
from shared.errors import Kind, Rejected, kind_of, one_line, require_input_bucket
from shared.events import ObjectChanged, ObjectHashed
from shared.work import WorkQueue

log = structlog.get_logger()
router = Router("hasher")

DIGESTED = Counter("penstock_hasher_versions_total", "Stored versions by what became of them.", ["status"])
BYTES = Counter("penstock_hasher_bytes_total", "Bytes of the objects that were read and digested.")
MISMATCHES = Counter("penstock_hasher_mismatches_total", "Objects whose digest is not the one their uploader declared.")

OBJECT_SECONDS = 15.0
"""How long one small object may hold up its batch; then it becomes leased work."""

Batch = Sequence[Received[ObjectChanged]]


@router.on(ObjectChanged, publishes=[ObjectHashed])
async def hash_objects(batch: Batch, hashing: "Hashing") -> list[ObjectHashed]:
    """Digest every stored version once; removed and already known versions need no reading."""
    admitted = hashing.admit(batch)
    stored = verdicts.newest(received.event for received in admitted)
    known, clock = await hashing.ledger.recall(stored)
    results = await hashing.digest_all(_waiting(stored, known, clock), known)
    _reject_failed(admitted, stored, results)
    facts = await hashing.conclude([one.row for one in results if one.row is not None])
    await hashing.postpone([one.large for one in results if one.large is not None])
    await hashing.set_aside([one.stuck for one in results if one.stuck is not None])
    await hashing.remove([one for one in admitted if one.event.change == "removed"], clock)
    return facts


def _waiting(
    stored: Mapping[Place, ObjectChanged], known: Mapping[Place, Remembered], clock: int
) -> dict[Place, ObjectChanged]:
    """Return the changes that are not outdated, ordered within their places."""
    ordered = {place: verdicts.ordered(change, known.get(place), clock) for place, change in stored.items()}
    return {place: one for place, one in ordered.items() if not verdicts.is_outdated(one, known.get(place))}


def _reject_failed(batch: Batch, stored: Mapping[Place, ObjectChanged], results: Sequence["Result"]) -> None:
    """Put what could not be digested among the dead letters too: from there it is sent back once the cause is gone."""
    failures = {one.place: one.row.failure for one in results if one.row is not None}
    for received in batch:
        place = verdicts.place_of(received.event)
        if stored.get(place) is received.event and (failure := failures.get(place)) is not None:
            received.reject(failure)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one change: a row, or work for later because its object is large or cannot be read now."""

    place: Place
    row: Row | None = None
    large: Large | None = None
    stuck: ObjectChanged | None = None


@dataclass(frozen=True, slots=True)
class Hashing:
    """What both ways of hashing share: the ledger, the objects, the work, and how a result is concluded."""

    ledger: DigestLedger
    objects: Objects
    queue: WorkQueue
    settings: HasherSettings

    def admit(self, batch: Batch) -> list[Received[ObjectChanged]]:
        """Return the records about input buckets; the others are dead letters before anything is asked."""
        admitted = []
        for received in batch:
            try:
                require_input_bucket(received.event.bucket, self.settings.input_buckets)
            except Rejected as refusal:
                received.reject(refusal)
            else:
                admitted.append(received)
        return admitted

    async def digest_all(
        self, changes: Mapping[Place, ObjectChanged], known: Mapping[Place, Remembered]
    ) -> list[Result]:
        """Digest small objects, so many at a time as the settings say."""
        results: list[Result] = []
        waiting = iter(changes.items())

        async def work_on() -> None:
            results.extend([await self._digest(place, change, known.get(place)) for place, change in waiting])

        async with asyncio.TaskGroup() as crew:
            for _ in range(min(len(changes), self.settings.hasher_small_in_flight)):
                crew.create_task(work_on())
        return results

    async def _digest(self, place: Place, change: ObjectChanged, mine: Remembered | None) -> Result:
        """Digest a small object; only an outage of the whole store goes outward, all else is this object's own."""
        if (row := verdicts.repeated(change, mine)) is not None:
            return Result(place, row)
        try:
            answer = await self._digest_in_time(change, mine)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this object's own
            if kind_of(error) is not Kind.OUTAGE:
                return Result(place, _failed(change, error))
            await self.objects.check()
            log.warning("object.set_aside", bucket=change.bucket, key=change.key, reason=one_line(error))
            return Result(place, stuck=change)
        return Result(place, large=answer) if isinstance(answer, Large) else Result(place, answer)

    async def _digest_in_time(self, change: ObjectChanged, mine: Remembered | None) -> Row | Large:
        """Try an object a few times within its deadline, whatever it meets."""
        async with asyncio.timeout(OBJECT_SECONDS):
            try:
                return await self.objects.digest_small(change, mine)
            except Exception as error:
                if kind_of(error) is Kind.REJECTED:
                    raise
            async for attempt in stamina.retry_context(on=_may_pass, attempts=2, wait_initial=0.1, wait_max=2.0):
                with attempt:
                    await self.objects.check()  # while the store serves nobody, the whole batch waits
                    return await self.objects.digest_small(change, mine)
        raise AssertionError  # unreachable: the last try raises

    async def conclude(self, rows: Sequence[Row]) -> list[ObjectHashed]:
        """Keep rows and return the facts to publish: those of versions nobody has replaced meanwhile."""
        rows = _newest(rows)
        rows = [replace(row, kept=True) if self._goes(row) else row for row in rows]
        standing = await self.ledger.record(rows)
        done = [row for row in rows if verdicts.place_of(row.change) in standing]
        for row in done:
            _count(row)
        succeeded = [row for row in done if row.status == "succeeded"]
        await asyncio.gather(*(self.objects.delete(row.change) for row in succeeded if row.kept))
        return [verdicts.fact_of(row) for row in succeeded]

    def _goes(self, row: Row) -> bool:
        """Whether an object is removed now that it is hashed: only an upload of the digest API is."""
        if not self.settings.hasher_delete_after or row.status != "succeeded":
            return False
        is_upload = row.change.key.startswith(self.settings.hasher_delete_prefixes)
        return row.change.bucket == self.settings.upload_bucket and is_upload

    async def postpone(self, large: Sequence[Large]) -> None:
        """Turn large objects into leased work, seen as pending until a worker takes them."""
        rows = [Row(one.change, "pending", is_current=one.is_current) for one in large]
        await self.ledger.record(_newest(rows))
        await self.set_aside([one.change for one in large])

    async def set_aside(self, changes: Sequence[ObjectChanged]) -> None:
        """Turn changes into leased work."""
        for change in changes:
            name = f"{change.bucket}/{change.key}@{change.version_id or ''}#{change.etag}"
            await self.queue.add(name, change.model_dump(mode="json"), correlation_id=change.correlation_id)

    async def remove(self, removals: Batch, clock: int) -> None:
        """Hide the digests of what the bucket confirms to be gone; `clock` is from before it is asked."""
        room = asyncio.Semaphore(self.settings.hasher_small_in_flight)

        async def confirmed(received: Received[ObjectChanged]) -> ObjectChanged | None:
            async with room:
                return received.event if await self._is_gone(received) else None

        asked = await asyncio.gather(*map(confirmed, removals))
        await self.ledger.remove([one for one in asked if one is not None], clock=clock)

    async def _is_gone(self, received: Received[ObjectChanged]) -> bool:
        change = received.event
        try:
            return await self.objects.is_gone(change)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this record's own
            if kind_of(error) is Kind.OUTAGE:
                await self.objects.check()
                await self.set_aside([change])
            else:
                received.reject(error)
            return False


def _may_pass(error: Exception) -> bool:
    return kind_of(error) is not Kind.REJECTED


def _newest(rows: Sequence[Row]) -> list[Row]:
    """Return one row a place, for two changes may lead to one version."""
    newest: dict[Place, Row] = {}
    for row in sorted(rows, key=lambda row: (row.change.revision, row.status == "succeeded")):
        newest[verdicts.place_of(row.change)] = row
    return list(newest.values())


def _failed(change: ObjectChanged, error: Exception) -> Row:
    log.error("object.not_hashed", bucket=change.bucket, key=change.key, exc_info=error)
    return Row(change, "failed", failure=error)


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
