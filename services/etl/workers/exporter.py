"""Write the output files of tables once a burst of changes is over."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from services.etl.adapters.exports import Due, Exports, Snapshot, StaleSource
from services.etl.adapters.outputs import CurrentOutput, LocalFile, Outputs
from services.etl.adapters.spreadsheet_csv import write_spreadsheet_csv
from services.etl.core.datasets import Dataset, Datasets
from services.etl.core.exporting import CONTENT_TYPES, Output, output_key, rejects_file, rejects_key, value_types
from shared.errors import PenstockError, Rejected
from shared.loops import periodically
from shared.parquet import csv_to_parquet
from shared.storage import ObjectGone, ObjectSuperseded
from shared.work import Lease

log = structlog.get_logger()

POLL_SECONDS = 0.05
DUE_SECONDS = 0.5
REQUEST_AGAIN_SECONDS = 15.0
REPAIR_SECONDS = 60.0
WRITE_TRIES = 5


@dataclass(frozen=True, slots=True)
class Exporter:
    """Write the output files of changed datasets; one process writes a dataset at a time, and never over a newer file.

    Conversions run one at a time to bound memory.
    """

    exports: Exports
    outputs: Outputs
    datasets: Datasets
    enqueued: dict[str, tuple[int, float]] = field(default_factory=dict)
    conversion_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def watch(self) -> None:
        """Enqueue due exports forever: datasets that have been quiet, or that have waited for the maximum time."""
        await periodically(self._enqueue_due, DUE_SECONDS, event="export.not_enqueued")

    async def repair(self) -> None:
        """Rewrite output files that another program removed or changed; abort abandoned uploads. Runs forever."""
        await periodically(self._repair, REPAIR_SECONDS, event="export.check_failed", survives=Rejected)

    async def write(self, lease: Lease) -> None:
        """Write the table or the rejects of the leased dataset."""
        name, _, rejects = lease.item.key.partition("/")
        if (dataset := self.datasets.by_name.get(name)) is None:
            raise PenstockError(f"this process's file of datasets has no {name}; another process's may")
        if rejects:
            return await self._write_rejects(dataset, lease)
        for tries in range(WRITE_TRIES):
            try:
                return await self._write_table(dataset, lease)
            except (ObjectGone, ObjectSuperseded):
                log.info("output.superseded", dataset=name, tries=tries + 1)
        raise PenstockError(f"another program keeps changing the output files of {name}: let only etl write them")

    async def _enqueue_due(self) -> float:
        """Enqueue due exports; return the seconds until the next one."""
        due = await self.exports.due(tuple(self.datasets.by_name))
        for one in due:
            if one.seconds <= 0:
                await self._enqueue(one)
        return min([DUE_SECONDS, *(max(one.seconds, POLL_SECONDS) for one in due if one.seconds > 0)])

    async def _enqueue(self, due: Due) -> None:
        """Enqueue an export once for each change; again after REQUEST_AGAIN_SECONDS, in case it failed for good."""
        changed, at = self.enqueued.get(due.key, (0, 0.0))
        is_due = changed != due.changed or time.monotonic() > at + REQUEST_AGAIN_SECONDS
        if is_due and await self.exports.enqueue(due):
            self.enqueued[due.key] = (due.changed, time.monotonic())

    async def _repair(self) -> None:
        await self.outputs.abort_abandoned()
        for name, etags in (await self.exports.current_etags(tuple(self.datasets.by_name))).items():
            current = await self._current(self.datasets.by_name[name])
            if etags != {output: one.etag for output, one in current.items()}:
                log.warning("output.changed_by_others", dataset=name)
                await self.exports.request_rewrite(name)

    async def _current(self, dataset: Dataset) -> dict[Output, CurrentOutput]:
        return {output: await self.outputs.head(output_key(dataset, output)) for output in CONTENT_TYPES}

    async def _write_table(self, dataset: Dataset, lease: Lease) -> None:
        """Write the table; the etags are read before the table, so that a newer file is never replaced."""
        started = time.monotonic()
        etags: dict[str, str] = {}
        current = await self._current(dataset)
        async with self.exports.snapshot(dataset) as table:
            for output, existing in current.items():
                make = self._make_csv if output == "csv" else self._make_parquet
                file = await make(dataset, table, existing)
                lease.check()
                etags[output] = await self.outputs.replace(existing, file, content_type=CONTENT_TYPES[output])
        await self.exports.mark_written(dataset, table, etags, lease.item)
        log.info("output.written", dataset=dataset.name, rows=table.rows, seconds=round(time.monotonic() - started, 3))

    async def _make_csv(self, dataset: Dataset, table: Snapshot, _existing: CurrentOutput) -> LocalFile:
        target = table.values.with_name("cells.csv")
        async with self.conversion_lock:
            return LocalFile(target, await asyncio.to_thread(write_spreadsheet_csv, table.values, target, dataset))

    async def _make_parquet(self, dataset: Dataset, table: Snapshot, existing: CurrentOutput) -> LocalFile:
        target = table.values.with_name("values.parquet")
        if existing.source_digest != table.digest:
            async with self.conversion_lock:
                await asyncio.to_thread(csv_to_parquet, table.values, target, value_types(dataset))
        return LocalFile(target, table.digest)

    async def _write_rejects(self, dataset: Dataset, lease: Lease) -> None:
        after = 0
        while stale := await self.exports.stale_sources(dataset.name, after):
            lease.check()
            await self._write_rejects_of(dataset, stale)
            after = stale[-1].id

    async def _write_rejects_of(self, dataset: Dataset, stale: Sequence[StaleSource]) -> None:
        """Write rejects; the etags are read first, for the same reason as in `_write_table`."""
        keys = [rejects_key(dataset.name, one.key) for one in stale]
        current = await asyncio.gather(*map(self.outputs.head, keys))
        rejects = await self.exports.rejects(stale)
        async with asyncio.TaskGroup() as group:
            for one, existing in zip(stale, current, strict=True):
                if one.id in rejects:
                    group.create_task(self._write_file_of(rejects[one.id].rows, existing))
        await self.exports.mark_rejects_written(dataset, list(rejects.values()))

    async def _write_file_of(self, rows: Sequence[tuple[object, ...]], existing: CurrentOutput) -> None:
        if rows:
            await self.outputs.put(existing, rejects_file(rows), content_type=CONTENT_TYPES["csv"])
        else:
            await self.outputs.remove(existing)
