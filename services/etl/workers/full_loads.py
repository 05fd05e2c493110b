"""Run and schedule full loads."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import structlog

from services.etl.adapters.loads import Loads, completed_fact
from services.etl.core import diff, progress
from services.etl.core.datasets import Dataset
from services.etl.core.schedules import Interval
from services.etl.core.values import FileToLoad
from services.etl.loading import Loader, to_payload
from shared.bus import Bus
from shared.concurrency import prefetch
from shared.errors import PenstockError, Rejected, one_line
from shared.events import EtlRequested
from shared.outages import retry_outages
from shared.progress import Throughput
from shared.storage import ObjectInfo
from shared.work import Item, Lease, WorkQueue

log = structlog.get_logger()

START_WINDOW_SECONDS = 60.0
POLL_SECONDS = 0.05
MAX_POLL_SECONDS = 1.0
PREFETCH_PAGES = 2


@dataclass(frozen=True, slots=True)
class FullLoads:
    """Compare a dataset's bucket with its known objects; all processes share the work on the differences."""

    loader: Loader
    files: WorkQueue
    bus: Bus

    @property
    def loads(self) -> Loads:
        """The table of loads."""
        return self.loader.loads

    async def load(self, lease: Lease) -> None:
        """Run one full load; after a crash, another process finds only what still differs."""
        load_id, dataset = lease.item.payload["load_id"], self._dataset(lease.item)
        load_progress = LoadProgress(lease)
        await self.loads.begin(load_id, dataset.name)
        await self._wait_for_chunks(lease, load_progress)
        await self._enqueue_chunks(lease, dataset, load_progress)
        await self.loads.note_listed(load_id, dataset.name, load_progress.listed)
        await self._wait_for_chunks(lease, load_progress)
        row = await self.loads.finish(load_id, dataset.name, lease.item.correlation_id)
        if row:
            done = completed_fact(row, dataset, self.loader.settings.etl_output_bucket)
            await self.bus.publish([done])
            log.info("load.completed", **done.model_dump(exclude={"outputs", "correlation_id"}))
        await self.files.forget(_prefix(lease.item))
        await self.loader.tables.purge(dataset)
        await self.loads.purge()

    async def on_failure(self, item: Item, error: Exception) -> None:
        """Store why a load failed, and publish it for those who requested the load."""
        load_id, name, reason = item.payload["load_id"], item.payload["dataset"], one_line(error)
        row = await self.loads.fail(load_id, name, item.correlation_id, reason)
        log.warning("load.failed", load_id=load_id, dataset=name, reason=reason)
        if row and (dataset := self.loader.datasets.by_name.get(name)):
            done = completed_fact(row, dataset, self.loader.settings.etl_output_bucket)
            await self.bus.publish([done.model_copy(update={"state": "failed", "error": reason})])

    def _dataset(self, item: Item) -> Dataset:
        name = item.payload["dataset"]
        if (dataset := self.loader.datasets.by_name.get(name)) is None:
            raise PenstockError(f"this process's file of datasets has no {name}; another process's may")
        return dataset

    async def _enqueue_chunks(self, lease: Lease, dataset: Dataset, load_progress: "LoadProgress") -> None:
        """Enqueue chunks of the objects that differ, page by page."""
        number, after = 0, ""
        remaining: list[FileToLoad] = []
        async with aclosing(prefetch(self.loader.bucket.pages(dataset), limit=PREFETCH_PAGES)) as pages:
            async for page in pages:
                upto = page[-1].ref.key if page else after
                differing = await self._diff(lease, dataset, page, after, upto)
                load_progress.add_listed(listed=len(page), differing=len(differing))
                *full_chunks, remaining = self._chunks([*remaining, *differing]) or [[]]
                number, after = await self._enqueue(lease, full_chunks, number), upto
        removed = await self._diff(lease, dataset, [], after, None)
        load_progress.add_listed(listed=0, differing=len(removed))
        await self._enqueue(lease, self._chunks([*remaining, *removed]), number)

    async def _diff(
        self, lease: Lease, dataset: Dataset, page: Sequence[ObjectInfo], after: str, upto: str | None
    ) -> list[FileToLoad]:
        correlation_id = lease.item.correlation_id
        tables = self.loader.tables
        return await tables.diff_listing(dataset, page, after=after, upto=upto, correlation_id=correlation_id)

    def _chunks(self, files: Sequence[FileToLoad]) -> list[list[FileToLoad]]:
        settings = self.loader.settings
        return list(diff.chunks(files, size=settings.etl_slice, large_bytes=settings.etl_large_bytes))

    async def _enqueue(self, lease: Lease, chunks: Sequence[Sequence[FileToLoad]], number: int) -> int:
        for number, chunk in enumerate(chunks, number + 1):  # noqa: B020, PLR1704 - continues the numbering
            name = f"{_prefix(lease.item)}{lease.item.token}-{number}"
            await self.files.add(name, to_payload(chunk), correlation_id=lease.item.correlation_id)
        return number

    async def _wait_for_chunks(self, lease: Lease, load_progress: "LoadProgress") -> None:
        """Wait until all chunks are done by any process.

        Raises:
            Rejected: a chunk failed for good.

        """
        pause = POLL_SECONDS
        while True:
            lease.check()
            counts = await self.files.counts(_prefix(lease.item))
            chunks, failed = sum(counts.values()), counts.get("failed", 0)
            done = counts.get("succeeded", 0) + failed
            if chunks == done:
                break
            fractions = map(progress.fraction_read, await self.files.reports(_prefix(lease.item)))
            load_progress.report_done(done + sum(fractions), of=chunks)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, MAX_POLL_SECONDS)
        if failed:
            name = lease.item.payload["dataset"]
            reason = f"{failed} of {chunks} chunks failed, the others are loaded: see penstock etl rejects {name}"
            raise Rejected("SLICE_FAILED", reason)


def _prefix(item: Item) -> str:
    return f"load:{item.key}/"  # no bucket name contains a colon


@dataclass(slots=True)
class LoadProgress:
    """Progress of one full load: objects listed, objects that differ, share done."""

    lease: Lease
    throughput: Throughput = field(default_factory=Throughput)
    listed: int = 0
    differing: int = 0

    def add_listed(self, *, listed: int, differing: int) -> None:
        """Report more listed objects."""
        self.listed += listed
        self.differing += differing
        self.lease.report(progress.listing(self.listed, self.differing))

    def report_done(self, chunks: float, of: int) -> None:
        """Report how many chunks are done, including fractions."""
        share = chunks / of
        rate, eta = self.throughput.per_second(self.differing * share), self.throughput.eta_seconds(chunks, of)
        self.lease.report(progress.reading(self.listed, self.differing, share=share, rate=rate, eta_seconds=eta))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Request loads at start and by the interval; all processes compute the same load id, so each load runs once."""

    loads: Loads
    datasets: Sequence[str]
    interval: Interval

    async def run(self) -> None:
        """Request loads forever."""
        for dataset in self.datasets:
            table_created_at = await retry_outages(partial(self.loads.table_created_at, dataset))
            await self._request(
                f"start-{int(time.time() // START_WINDOW_SECONDS)}-{table_created_at}", dataset, why="start"
            )
        while (due := self.interval.after(datetime.now(UTC))) is not None:
            await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
            for dataset in self.datasets:
                await self._request(f"scheduled-{due:%Y%m%dT%H%M%SZ}", dataset, why="scheduled")

    async def _request(self, load_id: str, dataset: str, *, why: str) -> None:
        request = EtlRequested(load_id=load_id, dataset=dataset)
        await retry_outages(partial(self.loads.request, request, why=why))
