"""Digest stored versions, save and announce their digests, and enqueue large objects; for handlers and workers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import stamina
import structlog
from prometheus_client import Counter

from services.hasher.adapters.ledger import DigestLedger
from services.hasher.adapters.objects import LargeObject, ObjectDigester
from services.hasher.core import decisions
from services.hasher.core.decisions import DigestRow, LedgerEntry, VersionKey
from services.hasher.settings import HasherSettings
from shared.bus import Received
from shared.concurrency import map_concurrently
from shared.errors import Kind, Rejected, kind_of, one_line, require_input_bucket
from shared.events import ObjectChanged, ObjectHashed
from shared.work import WorkQueue

log = structlog.get_logger()

DIGESTED = Counter("penstock_hasher_versions_total", "Stored versions by status.", ["status"])
BYTES = Counter("penstock_hasher_bytes_total", "Bytes of the objects that were read and digested.")
MISMATCHES = Counter("penstock_hasher_mismatches_total", "Objects whose digest is not the one their uploader declared.")

OBJECT_TIMEOUT_SECONDS = 15.0
"""Time limit for one small object of a batch; then it becomes leased work."""

Batch = Sequence[Received[ObjectChanged]]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one change: a row, or leased work because its object is large or cannot be read now."""

    key: VersionKey
    row: DigestRow | None = None
    large: LargeObject | None = None
    unreadable: ObjectChanged | None = None


@dataclass(frozen=True, slots=True)
class Hashing:
    """Digests changed objects: small ones at once and concurrently, large ones as leased work."""

    ledger: DigestLedger
    objects: ObjectDigester
    queue: WorkQueue
    settings: HasherSettings

    async def hash_batch(self, batch: Batch) -> list[ObjectHashed]:
        """Digest the stored versions of a batch, apply its removals, and return the facts to publish."""
        admitted = self.admit(batch)
        stored = decisions.newest_by_version(received.event for received in admitted)
        known, clock = await self.ledger.get(stored)
        results = await self.digest_all(_not_outdated(stored, known, clock), known)
        _reject_failed(admitted, stored, results)
        facts = await self.save_results([one.row for one in results if one.row is not None])
        await self.enqueue_large([one.large for one in results if one.large is not None])
        await self.enqueue([one.unreadable for one in results if one.unreadable is not None])
        await self.apply_removals([one for one in admitted if one.event.change == "removed"], clock)
        return facts

    def admit(self, batch: Batch) -> list[Received[ObjectChanged]]:
        """Return the records about input buckets; reject the others before any request to the store."""
        admitted = []
        for received in batch:
            try:
                require_input_bucket(received.event.bucket, self.settings.input_buckets)
            except Rejected as rejection:
                received.reject(rejection)
            else:
                admitted.append(received)
        return admitted

    async def digest_all(
        self, changes: Mapping[VersionKey, ObjectChanged], known: Mapping[VersionKey, LedgerEntry]
    ) -> list[Result]:
        """Digest small objects, at most `hasher_small_in_flight` at a time."""

        async def digest(item: tuple[VersionKey, ObjectChanged]) -> Result:
            key, change = item
            return await self._digest(key, change, known.get(key))

        return await map_concurrently(digest, changes.items(), limit=self.settings.hasher_small_in_flight)

    async def _digest(self, key: VersionKey, change: ObjectChanged, entry: LedgerEntry | None) -> Result:
        """Digest a small object; raise only when the whole store is unavailable, else fail or enqueue this object."""
        if (row := decisions.already_succeeded(change, entry)) is not None:
            return Result(key, row)
        try:
            answer = await self._digest_with_timeout(change, entry)
        except Exception as error:  # noqa: BLE001 - any other error concerns this object alone
            if kind_of(error) is not Kind.OUTAGE:
                return Result(key, _failed_row(change, error))
            await self.objects.check()
            log.warning("object.unreadable", bucket=change.bucket, key=change.key, reason=one_line(error))
            return Result(key, unreadable=change)
        return Result(key, large=answer) if isinstance(answer, LargeObject) else Result(key, answer)

    async def _digest_with_timeout(self, change: ObjectChanged, entry: LedgerEntry | None) -> DigestRow | LargeObject:
        """Digest an object within its time limit; retry every error but a rejection."""
        async with asyncio.timeout(OBJECT_TIMEOUT_SECONDS):
            try:
                return await self.objects.digest_small(change, entry)
            except Exception as error:
                if kind_of(error) is Kind.REJECTED:
                    raise
            async for attempt in stamina.retry_context(on=_is_retryable, attempts=2, wait_initial=0.1, wait_max=2.0):
                with attempt:
                    await self.objects.check()  # the whole batch waits while the store is unavailable
                    return await self.objects.digest_small(change, entry)
        raise AssertionError  # unreachable: the last attempt raises

    async def save_results(self, rows: Sequence[DigestRow]) -> list[ObjectHashed]:
        """Save rows and return the facts to publish: those of versions without a newer row."""
        rows = _newest_by_version(rows)
        rows = [replace(row, outlives_object=True) if self._is_to_be_deleted(row) else row for row in rows]
        written = await self.ledger.save(rows)
        done = [row for row in rows if decisions.version_key_of(row.change) in written]
        for row in done:
            _record_metrics(row)
        succeeded = [row for row in done if row.status == "succeeded"]
        await asyncio.gather(*(self.objects.delete(row.change) for row in succeeded if row.outlives_object))
        return [decisions.to_fact(row) for row in succeeded]

    def _is_to_be_deleted(self, row: DigestRow) -> bool:
        """Whether the object is to be deleted now that it is hashed; true only for an upload of the digest API."""
        if not self.settings.hasher_delete_after or row.status != "succeeded":
            return False
        is_upload = row.change.key.startswith(self.settings.hasher_delete_prefixes)
        return row.change.bucket == self.settings.upload_bucket and is_upload

    async def enqueue_large(self, large: Sequence[LargeObject]) -> None:
        """Save large objects as pending and enqueue them as leased work."""
        rows = [DigestRow(one.change, "pending", is_current=one.is_current) for one in large]
        await self.ledger.save(_newest_by_version(rows))
        await self.enqueue([one.change for one in large])

    async def enqueue(self, changes: Sequence[ObjectChanged]) -> None:
        """Enqueue changes as leased work."""
        for change in changes:
            name = f"{change.bucket}/{change.key}@{change.version_id or ''}#{change.etag}"
            await self.queue.add(name, change.model_dump(mode="json"), correlation_id=change.correlation_id)

    async def apply_removals(self, removals: Batch, clock: int) -> None:
        """Hide the digests of objects that the bucket no longer holds; read `clock` before calling."""

        async def confirm(received: Received[ObjectChanged]) -> ObjectChanged | None:
            return received.event if await self._is_gone(received) else None

        answers = await map_concurrently(confirm, removals, limit=self.settings.hasher_small_in_flight)
        await self.ledger.mark_removed([one for one in answers if one is not None], clock=clock)

    async def _is_gone(self, received: Received[ObjectChanged]) -> bool:
        change = received.event
        try:
            return await self.objects.is_gone(change)
        except Exception as error:  # noqa: BLE001 - any other error concerns this record alone
            if kind_of(error) is Kind.OUTAGE:
                await self.objects.check()
                await self.enqueue([change])
            else:
                received.reject(error)
            return False


def _not_outdated(
    stored: Mapping[VersionKey, ObjectChanged], known: Mapping[VersionKey, LedgerEntry], clock: int
) -> dict[VersionKey, ObjectChanged]:
    """Return the changes that are not outdated, with limited revisions."""
    limited = {key: decisions.limit_revision(change, known.get(key), clock) for key, change in stored.items()}
    return {key: one for key, one in limited.items() if not decisions.is_outdated(one, known.get(key))}


def _reject_failed(batch: Batch, stored: Mapping[VersionKey, ObjectChanged], results: Sequence[Result]) -> None:
    """Dead-letter the records of failed objects, so an operator can replay them once the cause is fixed."""
    failures = {one.key: one.row.failure for one in results if one.row is not None}
    for received in batch:
        key = decisions.version_key_of(received.event)
        if stored.get(key) is received.event and (failure := failures.get(key)) is not None:
            received.reject(failure)


def _is_retryable(error: Exception) -> bool:
    return kind_of(error) is not Kind.REJECTED


def _newest_by_version(rows: Sequence[DigestRow]) -> list[DigestRow]:
    """Return the newest row of each version: two changes may refer to one version."""
    newest: dict[VersionKey, DigestRow] = {}
    for row in sorted(rows, key=lambda row: (row.change.revision, row.status == "succeeded")):
        newest[decisions.version_key_of(row.change)] = row
    return list(newest.values())


def _failed_row(change: ObjectChanged, error: Exception) -> DigestRow:
    log.error("object.digest_failed", bucket=change.bucket, key=change.key, exc_info=error)
    return DigestRow(change, "failed", failure=error)


def _record_metrics(row: DigestRow) -> None:
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
