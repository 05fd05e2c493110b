"""The files of tables, written once a burst of changes is over."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from services.etl.adapters.exports import Due, Exports, Snapshot, Stale
from services.etl.adapters.outputs import Made, Outputs, Present
from services.etl.adapters.sheets import write_cells
from services.etl.core.datasets import Dataset, Datasets
from services.etl.core.exporting import CONTENT_TYPES, Output, output_key, rejects_file, rejects_key, values_types
from shared.errors import PenstockError, Rejected, one_line
from shared.outages import retry_outages
from shared.parquet import csv_to_parquet
from shared.storage import ObjectGone, ObjectSuperseded
from shared.work import Lease

log = structlog.get_logger()

LOOK_SECONDS = 0.05
DUE_SECONDS = 0.5
ASKED_SECONDS = 15.0
MEND_SECONDS = 60.0
WRITE_TRIES = 5


@dataclass(frozen=True, slots=True)
class Exporter:
    """Writes the files of datasets that have changed, one process at a time for each, and nobody over a newer one.

    What takes memory is made one at a time.
    """

    exports: Exports
    outputs: Outputs
    datasets: Datasets
    asked: dict[str, tuple[int, float]] = field(default_factory=dict)
    converting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def watch(self) -> None:
        """Ask for ever for what is due, once it was quiet for a while or has waited long enough."""
        while True:
            pause = await retry_outages(self._look)
            await asyncio.sleep(pause)

    async def mend(self) -> None:
        """Have files written again that somebody else has removed or changed, and remove what was left half written."""
        while True:
            try:
                await retry_outages(self.outputs.tidy)
                await retry_outages(self._mend)
            except Rejected as refusal:
                log.warning("export.not_looked_at", reason=one_line(refusal))
            await asyncio.sleep(MEND_SECONDS)

    async def write(self, lease: Lease) -> None:
        """Write what `lease` is about: a dataset's table, or what was rejected of it."""
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
        raise PenstockError(f"somebody else changes the files of {name} all the time; let only etl write them")

    async def _look(self) -> float:
        """Ask for what is due; return how many seconds there is nothing to ask for."""
        due = await self.exports.due(tuple(self.datasets.by_name))
        for one in due:
            if one.seconds <= 0:
                await self._ask(one)
        return min([DUE_SECONDS, *(max(one.seconds, LOOK_SECONDS) for one in due if one.seconds > 0)])

    async def _ask(self, due: Due) -> None:
        """Ask once for each change; what failed for good is asked for again after a while."""
        changed, at = self.asked.get(due.key, (0, 0.0))
        is_new = changed != due.changed or time.monotonic() > at + ASKED_SECONDS
        if is_new and await self.exports.ask(due):
            self.asked[due.key] = (due.changed, time.monotonic())

    async def _mend(self) -> None:
        for name, etags in (await self.exports.shown(tuple(self.datasets.by_name))).items():
            present = await self._present(self.datasets.by_name[name])
            if etags != {output: one.etag for output, one in present.items()}:
                log.warning("output.changed_by_others", dataset=name)
                await self.exports.redo(name)

    async def _present(self, dataset: Dataset) -> dict[Output, Present]:
        return {output: await self.outputs.look(output_key(dataset, output)) for output in CONTENT_TYPES}

    async def _write_table(self, dataset: Dataset, lease: Lease) -> None:
        """Look at the files before the table: what is written then replaces nothing that is newer."""
        started = time.monotonic()
        etags: dict[str, str] = {}
        present = await self._present(dataset)
        async with self.exports.snapshot(dataset) as table:
            for output, before in present.items():
                make = self._cells if output == "csv" else self._parquet
                file = await make(dataset, table, before)
                lease.check()
                etags[output] = await self.outputs.replace(before, file, content_type=CONTENT_TYPES[output])
        await self.exports.mark(dataset, table, etags, lease.item)
        log.info("output.written", dataset=dataset.name, rows=table.rows, seconds=round(time.monotonic() - started, 3))

    async def _cells(self, dataset: Dataset, table: Snapshot, _before: Present) -> Made:
        target = table.values.with_name("cells.csv")
        async with self.converting:
            return Made(target, await asyncio.to_thread(write_cells, table.values, target, dataset))

    async def _parquet(self, dataset: Dataset, table: Snapshot, before: Present) -> Made:
        target = table.values.with_name("values.parquet")
        if before.made_of != table.digest:
            async with self.converting:
                await asyncio.to_thread(csv_to_parquet, table.values, target, values_types(dataset))
        return Made(target, table.digest)

    async def _write_rejects(self, dataset: Dataset, lease: Lease) -> None:
        after = 0
        while stale := await self.exports.stale(dataset.name, after):
            lease.check()
            await self._write_rejects_of(dataset, stale)
            after = stale[-1].id

    async def _write_rejects_of(self, dataset: Dataset, stale: Sequence[Stale]) -> None:
        """Look at the files before the rejects, for the same reason."""
        keys = [rejects_key(dataset.name, one.key) for one in stale]
        present = await asyncio.gather(*map(self.outputs.look, keys))
        rejects = await self.exports.rejects(stale)
        async with asyncio.TaskGroup() as group:
            for one, before in zip(stale, present, strict=True):
                if one.id in rejects:
                    group.create_task(self._write_file_of(rejects[one.id].rows, before))
        await self.exports.settle(dataset, list(rejects.values()))

    async def _write_file_of(self, rows: Sequence[tuple[object, ...]], before: Present) -> None:
        if rows:
            await self.outputs.put(before, rejects_file(rows), content_type=CONTENT_TYPES["csv"])
        else:
            await self.outputs.remove(before)
