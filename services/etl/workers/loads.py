"""Full loads, and when they are due."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import structlog

from services.etl.adapters.loads import Loads, completed
from services.etl.core import differences, progress
from services.etl.core.ahead import ahead
from services.etl.core.datasets import Dataset
from services.etl.core.schedules import Interval
from services.etl.core.values import Wanted
from services.etl.handlers import Loading, payload_of
from shared.bus import Bus
from shared.errors import PenstockError, Rejected, one_line
from shared.events import EtlRequested
from shared.outages import retry_outages
from shared.storage import ObjectInfo
from shared.work import Item, Lease, WorkQueue

log = structlog.get_logger()

START_SLOT = 60.0
LOOK_SECONDS = 0.05
LOOK_MOST_SECONDS = 1.0
PAGES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class FullLoads:
    """Compares a dataset's bucket with what is known of it; every process works on what differs."""

    loading: Loading
    files: WorkQueue
    bus: Bus

    @property
    def loads(self) -> Loads:
        """Where loads are kept."""
        return self.loading.loads

    async def load(self, lease: Lease) -> None:
        """Do one full load; taken over after a crash it finds only what still differs."""
        load_id, dataset = lease.item.payload["load_id"], self._dataset(lease.item)
        told = Progress(lease)
        await self.loads.begin(load_id, dataset.name)
        await self._finish_slices(lease, told)
        await self._cut(lease, dataset, told)
        await self.loads.note_listed(load_id, dataset.name, told.listed)
        await self._finish_slices(lease, told)
        row = await self.loads.finish(load_id, dataset.name, lease.item.correlation_id)
        if row:
            done = completed(row, dataset, self.loading.settings.etl_output_bucket)
            await self.bus.publish([done])
            log.info("load.completed", **done.model_dump(exclude={"outputs", "correlation_id"}))
        await self.files.forget(_prefix(lease.item))
        await self.loading.tables.purge(dataset)
        await self.loads.purge()

    async def give_up(self, item: Item, error: Exception) -> None:
        """Say why a load failed: in its row, and in the fact that those wait for who asked for it."""
        load_id, name, reason = item.payload["load_id"], item.payload["dataset"], one_line(error)
        row = await self.loads.fail(load_id, name, item.correlation_id, reason)
        log.warning("load.failed", load_id=load_id, dataset=name, reason=reason)
        if row and (dataset := self.loading.datasets.by_name.get(name)):
            done = completed(row, dataset, self.loading.settings.etl_output_bucket)
            await self.bus.publish([done.model_copy(update={"state": "failed", "error": reason})])

    def _dataset(self, item: Item) -> Dataset:
        name = item.payload["dataset"]
        if (dataset := self.loading.datasets.by_name.get(name)) is None:
            raise PenstockError(f"this process's file of datasets has no {name}; another process's may")
        return dataset

    async def _cut(self, lease: Lease, dataset: Dataset, told: "Progress") -> None:
        """Cut what differs into slices, page by page."""
        number, after = 0, ""
        left: list[Wanted] = []
        async with aclosing(ahead(self.loading.bucket.pages(dataset), most=PAGES_AHEAD)) as pages:
            async for page in pages:
                upto = page[-1].ref.key if page else after
                differing = await self._differing(lease, dataset, page, after, upto)
                told.saw(listed=len(page), differing=len(differing))
                *whole, left = self._slices([*left, *differing]) or [[]]
                number, after = await self._add(lease, whole, number), upto
        gone = await self._differing(lease, dataset, [], after, None)
        told.saw(listed=0, differing=len(gone))
        await self._add(lease, self._slices([*left, *gone]), number)

    async def _differing(
        self, lease: Lease, dataset: Dataset, page: Sequence[ObjectInfo], after: str, upto: str | None
    ) -> list[Wanted]:
        correlation_id = lease.item.correlation_id
        tables = self.loading.tables
        return await tables.differing(dataset, page, after=after, upto=upto, correlation_id=correlation_id)

    def _slices(self, wanted: Sequence[Wanted]) -> list[list[Wanted]]:
        settings = self.loading.settings
        return list(differences.slices(wanted, size=settings.etl_slice, large_bytes=settings.etl_large_bytes))

    async def _add(self, lease: Lease, slices: Sequence[Sequence[Wanted]], number: int) -> int:
        for number, one in enumerate(slices, number + 1):  # noqa: B020, PLR1704 - it goes on counting
            name = f"{_prefix(lease.item)}{lease.item.token}-{number}"
            await self.files.add(name, payload_of(one), correlation_id=lease.item.correlation_id)
        return number

    async def _finish_slices(self, lease: Lease, told: "Progress") -> None:
        """Wait until every slice is done, whoever does it; one that failed for good fails the load."""
        pause = LOOK_SECONDS
        while True:
            lease.check()
            counts = await self.files.counts(_prefix(lease.item))
            slices, failed = sum(counts.values()), counts.get("failed", 0)
            done = counts.get("succeeded", 0) + failed
            if slices == done:
                break
            parts = map(progress.share_of, await self.files.reports(_prefix(lease.item)))
            told.worked(done + sum(parts), of=slices)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LOOK_MOST_SECONDS)
        if failed:
            name = lease.item.payload["dataset"]
            reason = f"{failed} of {slices} slices failed, and all else is loaded: penstock etl rejects {name} says why"
            raise Rejected("SLICE_FAILED", reason)


def _prefix(item: Item) -> str:
    return f"load:{item.key}/"  # as no bucket is called


@dataclass(slots=True)
class Progress:
    """How many objects one load has listed, how many of them differ, and how far they are."""

    lease: Lease
    started: float = field(default_factory=time.monotonic)
    listed: int = 0
    differing: int = 0

    def saw(self, *, listed: int, differing: int) -> None:
        """Tell of more of the listing."""
        self.listed += listed
        self.differing += differing
        self.lease.report(progress.listing(self.listed, self.differing))

    def worked(self, slices: float, of: int) -> None:
        """Tell how many slices are done, also in part."""
        seconds = time.monotonic() - self.started
        self.lease.report(progress.reading(self.listed, self.differing, share=slices / of, seconds=seconds))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Asks for loads at start and by the interval; several processes agree on one by its name."""

    loads: Loads
    datasets: Sequence[str]
    interval: Interval

    async def run(self) -> None:
        """Ask for ever."""
        for dataset in self.datasets:
            made_at = await retry_outages(partial(self.loads.made_at, dataset))
            await self._ask(f"start-{int(time.time() // START_SLOT)}-{made_at}", dataset, why="start")
        while (due := self.interval.after(datetime.now(UTC))) is not None:
            await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
            for dataset in self.datasets:
                await self._ask(f"scheduled-{due:%Y%m%dT%H%M%SZ}", dataset, why="scheduled")

    async def _ask(self, load_id: str, dataset: str, *, why: str) -> None:
        asked = EtlRequested(load_id=load_id, dataset=dataset)
        await retry_outages(partial(self.loads.request, asked, why=why))
