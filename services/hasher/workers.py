"""Large objects: leased work with progress, taken over when a worker dies."""

import asyncio
import time
from dataclasses import dataclass

from services.hasher.core import verdicts
from services.hasher.core.verdicts import Row, Task
from services.hasher.handlers import Hashing
from shared.bus import Bus
from shared.events import ObjectChanged
from shared.work import Item, Lease


@dataclass(frozen=True, slots=True)
class LargeObjects:
    """Digests one leased object at a time, from its first byte: digests have no middle to resume from."""

    hashing: Hashing
    bus: Bus

    async def digest(self, lease: Lease) -> None:
        """Digest the object of `lease`; what was overwritten meanwhile is left to the newer event."""
        change = ObjectChanged.model_validate(lease.item.payload)
        known = await self.hashing.ledger.recall([verdicts.place_of(change)])
        if verdicts.is_outdated(change, known.get(verdicts.place_of(change))):
            return
        task = verdicts.task_of(change, self.hashing.settings.hasher_digests)
        row = verdicts.reusable(task, known.get(verdicts.place_of(change))) or await self._read(task, lease)
        lease.check()
        await self.bus.publish(await self.hashing.conclude([row]))

    async def _read(self, task: Task, lease: Lease) -> Row:
        await self.hashing.ledger.record([Row(task.change, "running")])
        await asyncio.sleep(self.hashing.settings.hasher_delay)
        return await self.hashing.objects.digest_large(task, Progress(lease, task.size).report)

    async def give_up(self, item: Item, error: Exception) -> None:
        """Say that an object could not be digested: in the ledger, and by a dead letter."""
        change = ObjectChanged.model_validate(item.payload)
        await self.hashing.conclude([Row(change, "failed", failure=error)])
        await self.bus.bury_event(change, error)


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
