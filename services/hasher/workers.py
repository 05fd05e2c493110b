"""Large objects: leased work with progress, taken over when a worker dies."""

import asyncio
import time
from dataclasses import dataclass

from pydantic import ValidationError

from services.hasher.core import verdicts
from services.hasher.core.verdicts import Remembered, Row, Task
from services.hasher.handlers import Hashing
from shared.bus import Bus
from shared.errors import Kind, Rejected, kind_of, one_line, require_input_bucket
from shared.events import ObjectChanged
from shared.work import Item, Lease


@dataclass(frozen=True, slots=True)
class LargeObjects:
    """Digests one leased object at a time, from its first byte: digests have no middle to resume from."""

    hashing: Hashing
    bus: Bus

    async def digest(self, lease: Lease) -> None:
        """Digest the object of `lease`; what was overwritten meanwhile is left to the newer event."""
        change = self._change(lease.item)
        known, clock = await self.hashing.ledger.recall([verdicts.place_of(change)])
        mine = known.get(verdicts.place_of(change))
        if change.change == "removed":
            return await self._remove(change, clock)
        change = verdicts.ordered(change, mine, clock)
        if verdicts.is_outdated(change, mine):
            return None
        row = verdicts.repeated(change, mine) or await self._digest(change, mine, lease)
        lease.check()
        await self.bus.publish(await self.hashing.conclude([row]))
        if row.failure is not None:
            await self.bus.dead_letter_event(change, row.failure)
        return None

    async def _remove(self, change: ObjectChanged, clock: int) -> None:
        if await self.hashing.objects.is_gone(change):
            await self.hashing.ledger.remove([change], clock=clock)

    async def _digest(self, change: ObjectChanged, mine: Remembered | None, lease: Lease) -> Row:
        task = await self.hashing.objects.look(change)
        if isinstance(task, Row):
            return task
        return verdicts.reusable(task, mine) or await self._read(task, lease)

    async def _read(self, task: Task, lease: Lease) -> Row:
        await self.hashing.ledger.record([Row(task.change, "running", is_current=task.is_current)])
        await asyncio.sleep(self.hashing.settings.hasher_delay)
        return await self.hashing.objects.digest_large(task, Progress(lease, task.size).report)

    def _change(self, item: Item) -> ObjectChanged:
        """Return the change of an item; raises Rejected for one that no record could bring any more."""
        try:
            change = ObjectChanged.restore(item.payload)
        except ValidationError as error:
            raise Rejected("BAD_EVENT", f"not an ObjectChanged: {one_line(error)}") from None
        require_input_bucket(change.bucket, self.hashing.settings.input_buckets)
        return change

    async def give_up(self, item: Item, error: Exception) -> None:
        """Publish that an object could not be digested: in the ledger, and by a dead letter."""
        change = ObjectChanged.model_validate(item.payload)
        if kind_of(error) is not Kind.REJECTED:
            await self.hashing.conclude([Row(change, "failed", failure=error)])
        await self.bus.dead_letter_event(change, error)


@dataclass(slots=True)
class Progress:
    """Bytes, rate and time left of one object."""

    lease: Lease
    size: int
    started: float = 0.0

    def report(self, done: int) -> None:
        """Tell how many bytes are done; stops the reader once the lease is somebody else's."""
        self.lease.check()
        self.started = self.started or time.monotonic()
        seconds = time.monotonic() - self.started
        rate = done / seconds if seconds else 0.0
        left = round((self.size - done) / rate, 1) if rate else None
        self.lease.report({"bytes": done, "size": self.size, "bytes_per_second": round(rate), "eta_seconds": left})
