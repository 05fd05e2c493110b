"""Slices of full loads, and files that are too large to be read on the way."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.etl.adapters.files import LargeFiles
from services.etl.adapters.tables import Written
from services.etl.core import differences
from services.etl.core.ahead import ahead
from services.etl.core.checking import check
from services.etl.core.datasets import format_of
from services.etl.core.limits import RowCount
from services.etl.core.refusing import Refused
from services.etl.core.values import Checked, Found, Known, Reject, Wanted
from services.etl.handlers import Loading, change_of, fact_of, fact_of_failure, wanted_of
from services.etl.workers.lane import Lane, Turns
from shared.bus import Bus
from shared.errors import Outage
from shared.events import EtlLoaded
from shared.outages import is_outage
from shared.storage import ObjectGone, ObjectInfo, ObjectSuperseded
from shared.work import Item, Lease

BATCHES_AHEAD = 4
"""Batches of a large file that are read while the database takes the ones before."""


@dataclass(frozen=True, slots=True)
class Files:
    """Works on slices of full loads, and on files that are large, which take turns."""

    loading: Loading
    large: LargeFiles
    bus: Bus
    lane: Lane = field(default_factory=Lane)
    parquet: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def load(self, lease: Lease) -> None:
        """Make the tables follow the objects of `lease`, and tell what became of each."""
        wanted = wanted_of(lease.item.payload, self.loading.datasets, lease.item.correlation_id)
        failures: list[Exception] = []
        for one in await self._load_small(wanted, failures):
            if one.kind == "image":  # only its beginning is ever read, so it is not large but cannot be read now
                raise Outage(f"the object store cannot read {one.bucket}/{one.key} now")
            async with self._parquet_alone(one), self.lane.entered() as turns:
                await self.bus.publish(await self._load_large(one, lease, turns))
        if failures:
            raise failures[0]

    def _parquet_alone(self, wanted: Wanted) -> AbstractAsyncContextManager[None]:
        """Wait for other Parquet files, before taking a turn: the process that reads one is large."""
        return self.parquet if format_of(wanted.key) == "parquet" else nullcontext()

    async def _load_small(self, wanted: Sequence[Wanted], failures: list[Exception]) -> list[Wanted]:
        """Load what is small, and return what is large.

        Where that fails, objects are loaded one by one, so that one that cannot be loaded keeps no other from it.
        """
        try:
            facts, large = await self.loading.follow(wanted)
            await self.bus.publish(facts)
        except Exception as error:
            if is_outage(error):
                raise
            if len(wanted) == 1:
                await self._tell_failure(wanted[0], error)
                failures.append(error)
                return []
        else:
            return large
        return [large for one in wanted for large in await self._load_small([one], failures)]

    async def _load_large(self, wanted: Wanted, lease: Lease, turns: Turns) -> list[EtlLoaded]:
        """Load a file as it is now; one that is written by somebody else, or replaced meanwhile, is looked at again."""
        while True:
            lease.check()
            known = await self.loading.tables.recall([wanted])
            facts, news = self.loading.sort([wanted], known)
            if not news:
                return facts
            info = await self.loading.bucket.head(wanted)
            if info is None:
                return await self.loading.load([replace(wanted, size=0)])
            try:
                written = await self._stream(wanted, known[wanted.place], info, lease, turns)
            except (ObjectGone, ObjectSuperseded):
                continue
            if written:
                return [fact_of(one) for one in written]

    async def _stream(
        self, wanted: Wanted, known: Known, info: ObjectInfo, lease: Lease, turns: Turns
    ) -> list[Written]:
        progress = Progress(lease, info.size)
        stored_at = differences.to_the_second(info.last_modified)
        async with (
            self.loading.tables.filling(wanted.dataset) as filling,
            aclosing(ahead(self._checked(wanted, info, progress), most=BATCHES_AHEAD)) as batches,
        ):
            async for checked, rejects in batches:
                if any(one.line == 0 for one in rejects):
                    await filling.discard()
                filling.reject(rejects, 0)
                await filling.add(checked)
                progress.filled(filling.rows[0], filling.rejected[0])
                await turns.share()
            return await filling.apply([Found(wanted, known, info.etag, info.size, stored_at)])

    async def _checked(
        self, wanted: Wanted, info: ObjectInfo, progress: "Progress"
    ) -> AsyncGenerator[tuple[Checked, Sequence[Reject]], None]:
        """Give the rows of a file batch by batch, and what could not be read as one."""
        today, count = datetime.now(UTC).date(), RowCount()
        async with aclosing(self.large.batches(wanted, info, progress.read)) as batches:
            async for batch in batches:
                checked = await asyncio.to_thread(check, batch.frame, wanted.dataset, today=today)
                yield checked, batch.rejects
                try:
                    count.add(good=checked.good.height, rejected=len(checked.rejects) + len(batch.rejects))
                except Refused as refused:
                    yield Checked(checked.good.clear(), ()), [refused.reject]
                    return

    async def give_up(self, item: Item, error: Exception) -> None:
        """Put a large file's change among the dead letters; a load says itself what became of its slices."""
        if item.payload["dataset"] not in self.loading.datasets.by_name:
            return
        wanted = wanted_of(item.payload, self.loading.datasets, item.correlation_id)
        if len(wanted) == 1:
            await self._tell_failure(wanted[0], error)
        for one in wanted:
            if one.revision:
                await self.bus.dead_letter_event(change_of(one), error)

    async def _tell_failure(self, wanted: Wanted, error: Exception) -> None:
        """Show that an object could not be loaded, and publish it."""
        await self.loading.note_failure(wanted, error)
        await self.bus.publish([fact_of_failure(wanted, error)])


@dataclass(slots=True)
class Progress:
    """Rows and bytes of one large file, their rate, and the time that is left."""

    lease: Lease
    size: int
    started: float = field(default_factory=time.monotonic)
    bytes: int = 0
    rows: int = 0
    rejected: int = 0

    def read(self, done: int) -> None:
        """Tell how many bytes are read; stops the reader once the lease is somebody else's."""
        self.lease.check()
        self.bytes = done
        self._report()

    def filled(self, rows: int, rejected: int) -> None:
        """Tell how many rows are good, and how many are not."""
        self.rows, self.rejected = rows, rejected
        self._report()

    def _report(self) -> None:
        seconds = time.monotonic() - self.started
        rate = self.bytes / seconds if seconds else 0.0
        self.lease.report(
            {
                "bytes": self.bytes,
                "size": self.size,
                "rows": self.rows,
                "rejected": self.rejected,
                "rows_per_second": round(self.rows / seconds) if seconds else 0,
                "eta_seconds": round((self.size - self.bytes) / rate, 1) if rate else None,
            }
        )
