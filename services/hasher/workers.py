"""Digest large objects as leased work with progress; another worker takes over when one dies."""

import asyncio
from dataclasses import dataclass, field

from pydantic import ValidationError

from services.hasher.core import decisions
from services.hasher.core.decisions import DigestRow, DigestTask, LedgerEntry
from services.hasher.hashing import Hashing
from shared.bus import Bus
from shared.errors import Kind, Rejected, kind_of, one_line, require_input_bucket
from shared.events import ObjectChanged
from shared.progress import Throughput
from shared.work import Item, Lease


@dataclass(frozen=True, slots=True)
class LargeObjectWorker:
    """Digests leased objects, always from the first byte: a digest cannot be resumed."""

    hashing: Hashing
    bus: Bus

    async def digest(self, lease: Lease) -> None:
        """Digest the object of `lease`; skip it when a newer event is known."""
        change = self._change(lease.item)
        known, clock = await self.hashing.ledger.get([decisions.version_key_of(change)])
        entry = known.get(decisions.version_key_of(change))
        if change.change == "removed":
            return await self._apply_removal(change, clock)
        change = decisions.limit_revision(change, entry, clock)
        if decisions.is_outdated(change, entry):
            return None
        row = decisions.already_succeeded(change, entry) or await self._digest(change, entry, lease)
        lease.check()
        await self.bus.publish(await self.hashing.save_results([row]))
        if row.failure is not None:
            await self.bus.dead_letter_event(change, row.failure)
        return None

    async def _apply_removal(self, change: ObjectChanged, clock: int) -> None:
        if await self.hashing.objects.is_gone(change):
            await self.hashing.ledger.mark_removed([change], clock=clock)

    async def _digest(self, change: ObjectChanged, entry: LedgerEntry | None, lease: Lease) -> DigestRow:
        task = await self.hashing.objects.inspect(change)
        if isinstance(task, DigestRow):
            return task
        return decisions.reuse_digests(task, entry) or await self._stream(task, lease)

    async def _stream(self, task: DigestTask, lease: Lease) -> DigestRow:
        await self.hashing.ledger.save([DigestRow(task.change, "running", is_current=task.is_current)])
        await asyncio.sleep(self.hashing.settings.hasher_delay)
        return await self.hashing.objects.digest_large(task, ObjectProgress(lease, task.size).report)

    def _change(self, item: Item) -> ObjectChanged:
        """Return the change of an item. Raises Rejected for one that today's event rules refuse."""
        try:
            change = ObjectChanged.restore(item.payload)
        except ValidationError as error:
            raise Rejected("BAD_EVENT", f"not an ObjectChanged: {one_line(error)}") from None
        require_input_bucket(change.bucket, self.hashing.settings.input_buckets)
        return change

    async def on_failure(self, item: Item, error: Exception) -> None:
        """Save the failure of an object in the ledger and dead-letter its change."""
        change = ObjectChanged.model_validate(item.payload)
        if kind_of(error) is not Kind.REJECTED:
            await self.hashing.save_results([DigestRow(change, "failed", failure=error)])
        await self.bus.dead_letter_event(change, error)


@dataclass(frozen=True, slots=True)
class ObjectProgress:
    """Progress of one object: bytes, rate and remaining time."""

    lease: Lease
    size: int
    throughput: Throughput = field(default_factory=Throughput)

    def report(self, done: int) -> None:
        """Report the bytes read so far. Raises when another worker holds the lease, which stops the reader."""
        self.lease.check()
        rate, eta = self.throughput.per_second(done), self.throughput.eta_seconds(done, self.size)
        self.lease.report({"bytes": done, "size": self.size, "bytes_per_second": rate, "eta_seconds": eta})
