"""Load chunks of full loads, and files too large for a handler."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.etl.adapters.large_files import LargeFiles
from services.etl.adapters.tables import WrittenFile
from services.etl.core import diff
from services.etl.core.checking import check
from services.etl.core.datasets import format_of
from services.etl.core.limits import RowCount
from services.etl.core.rejects import RejectedFile
from services.etl.core.values import CheckedRows, FetchedFile, FileToLoad, KnownObject, RejectedRow
from services.etl.loading import Loader, change_of, fact_of, failure_fact, from_payload
from services.etl.workers.lane import Lane, LaneLock
from shared.bus import Bus
from shared.concurrency import prefetch
from shared.errors import Outage
from shared.events import EtlLoaded
from shared.outages import is_outage
from shared.progress import Throughput
from shared.storage import ObjectGone, ObjectInfo, ObjectSuperseded
from shared.work import Item, Lease

PREFETCH_BATCHES = 4
"""Batches of a large file read ahead while the database stores the previous ones."""


@dataclass(frozen=True, slots=True)
class FileLoads:
    """Load chunks of full loads, and large files one at a time."""

    loader: Loader
    large: LargeFiles
    bus: Bus
    lane: Lane = field(default_factory=Lane)
    parquet_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def load(self, lease: Lease) -> None:
        """Load the objects of `lease` and publish the outcome of each."""
        files = from_payload(lease.item.payload, self.loader.datasets, lease.item.correlation_id)
        failures: list[Exception] = []
        for one in await self._load_small(files, failures):
            if one.kind == "image":  # an image is never too large, because only its head is read: the store failed
                raise Outage(f"the object store cannot read {one.bucket}/{one.key} now")
            async with self._one_parquet_at_a_time(one), self.lane.enter() as lane_lock:
                await self.bus.publish(await self._load_large(one, lease, lane_lock))
        if failures:
            raise failures[0]

    def _one_parquet_at_a_time(self, file: FileToLoad) -> AbstractAsyncContextManager[None]:
        """Return a lock for Parquet files, taken before the lane: the process that reads one needs much memory."""
        return self.parquet_lock if format_of(file.key) == "parquet" else nullcontext()

    async def _load_small(self, files: Sequence[FileToLoad], failures: list[Exception]) -> list[FileToLoad]:
        """Load small files and return the large ones.

        After a failure, load the objects one by one, so that one failing object does not block the others.
        """
        try:
            facts, large = await self.loader.load_small(files)
            await self.bus.publish(facts)
        except Exception as error:
            if is_outage(error):
                raise
            if len(files) == 1:
                await self._publish_failure(files[0], error)
                failures.append(error)
                return []
        else:
            return large
        return [large for one in files for large in await self._load_small([one], failures)]

    async def _load_large(self, file: FileToLoad, lease: Lease, lane_lock: LaneLock) -> list[EtlLoaded]:
        """Load the current version of a file; start over if it was replaced or written by another process meanwhile."""
        while True:
            lease.check()
            known = await self.loader.tables.get_known([file])
            facts, to_fetch = self.loader.split_known([file], known)
            if not to_fetch:
                return facts
            info = await self.loader.bucket.head(file)
            if info is None:
                return await self.loader.load([replace(file, size=0)])
            try:
                written = await self._stream(file, known[file.object_key], info, lease, lane_lock)
            except (ObjectGone, ObjectSuperseded):
                continue
            if written:
                return [fact_of(one) for one in written]

    async def _stream(
        self, file: FileToLoad, known: KnownObject, info: ObjectInfo, lease: Lease, lane_lock: LaneLock
    ) -> list[WrittenFile]:
        progress = FileProgress(lease, info.size)
        stored_at = diff.truncate_to_second(info.last_modified)
        async with (
            self.loader.tables.transaction(file.dataset) as transaction,
            aclosing(prefetch(self._checked(file, info, progress), limit=PREFETCH_BATCHES)) as batches,
        ):
            async for checked, rejects in batches:
                if any(one.line == 0 for one in rejects):
                    await transaction.discard()
                transaction.reject(rejects, 0)
                await transaction.add(checked)
                progress.add_rows(transaction.rows[0], transaction.rejected[0])
                await lane_lock.yield_to_waiting()
            return await transaction.apply([FetchedFile(file, known, info.etag, info.size, stored_at)])

    async def _checked(
        self, file: FileToLoad, info: ObjectInfo, progress: "FileProgress"
    ) -> AsyncGenerator[tuple[CheckedRows, Sequence[RejectedRow]], None]:
        """Yield the checked rows of a file batch by batch, and the rejects of the reader."""
        today, count = datetime.now(UTC).date(), RowCount()
        async with aclosing(self.large.batches(file, info, progress.add_bytes)) as batches:
            async for batch in batches:
                checked = await asyncio.to_thread(check, batch.frame, file.dataset, today=today)
                yield checked, batch.rejects
                try:
                    count.add(good=checked.good.height, rejected=len(checked.rejects) + len(batch.rejects))
                except RejectedFile as rejected:
                    yield CheckedRows(checked.good.clear(), ()), [rejected.reject]
                    return

    async def on_failure(self, item: Item, error: Exception) -> None:
        """Dead-letter the change of a large file; a full load reports its failed chunks itself."""
        if item.payload["dataset"] not in self.loader.datasets.by_name:
            return
        files = from_payload(item.payload, self.loader.datasets, item.correlation_id)
        if len(files) == 1:
            await self._publish_failure(files[0], error)
        for one in files:
            if one.revision:
                await self.bus.dead_letter_event(change_of(one), error)

    async def _publish_failure(self, file: FileToLoad, error: Exception) -> None:
        """Record that an object could not be loaded, and publish it."""
        await self.loader.note_failure(file, error)
        await self.bus.publish([failure_fact(file, error)])


@dataclass(slots=True)
class FileProgress:
    """Progress of one large file: bytes, rows, rate and remaining time."""

    lease: Lease
    size: int
    throughput: Throughput = field(default_factory=Throughput)
    bytes: int = 0
    rows: int = 0
    rejected: int = 0

    def add_bytes(self, bytes_read: int) -> None:
        """Report how many bytes were read so far; raise LeaseLost if another worker holds the lease."""
        self.lease.check()
        self.bytes = bytes_read
        self._report()

    def add_rows(self, rows: int, rejected: int) -> None:
        """Report how many rows are valid and how many were rejected so far."""
        self.rows, self.rejected = rows, rejected
        self._report()

    def _report(self) -> None:
        self.lease.report(
            {
                "bytes": self.bytes,
                "size": self.size,
                "rows": self.rows,
                "rejected": self.rejected,
                "rows_per_second": self.throughput.per_second(self.rows),
                "eta_seconds": self.throughput.eta_seconds(self.bytes, self.size),
            }
        )
