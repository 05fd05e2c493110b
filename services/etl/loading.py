"""Load objects into tables; for handlers and workers."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import Counter

from services.etl.adapters.bucket import Bucket
from services.etl.adapters.loads import Loads
from services.etl.adapters.tables import Tables, WrittenFile
from services.etl.core import diff
from services.etl.core.checking import check, frame_of
from services.etl.core.datasets import Datasets
from services.etl.core.values import FetchedFile, FileToLoad, KnownObject
from services.etl.settings import EtlSettings
from shared.errors import PenstockError, one_line
from shared.events import EtlLoaded, ObjectChanged
from shared.outages import is_outage
from shared.work import WorkQueue

log = structlog.get_logger()

OBJECTS = Counter("penstock_etl_objects_total", "Files and images by outcome.", ["kind", "outcome"])
ROWS = Counter("penstock_etl_rows_total", "Valid rows of the files that were read.")
REJECTED = Counter("penstock_etl_rejected_rows_total", "Rows rejected because they do not fit their table.")

MAX_BATCH_OBJECTS = 1000
MAX_BATCH_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Loader:
    """Load objects into tables; shared by events and full loads."""

    datasets: Datasets
    bucket: Bucket
    tables: Tables
    loads: Loads
    files: WorkQueue
    settings: EtlSettings

    def file_to_load(self, change: ObjectChanged) -> FileToLoad | None:
        """Return the object to load for an event; None if no dataset claims it."""
        claim = self.datasets.claim(change.bucket, change.key)
        if claim is None:
            return None
        # revision 0 is reserved for listings; a future revision would hide every later change
        revision = max(min(change.revision, time.time_ns() // 1000), 1)
        return FileToLoad(change.bucket, change.key, *claim, revision, change.correlation_id, change.size)

    async def load(self, files: Sequence[FileToLoad]) -> list[EtlLoaded]:
        """Load small objects, enqueue large files as leased work, and return the facts to publish."""
        facts, large = await self.load_small(files)
        await self.enqueue_large(large)
        return facts

    async def load_small(self, files: Sequence[FileToLoad]) -> tuple[list[EtlLoaded], list[FileToLoad]]:
        """Load small objects; return the facts to publish and the files that are too large."""
        facts: list[EtlLoaded] = []
        large: list[FileToLoad] = []
        for batch in diff.batches(files, max_objects=MAX_BATCH_OBJECTS, max_bytes=MAX_BATCH_BYTES):
            remaining = batch
            while remaining:
                facts_of_batch, too_large, remaining = await self._fetch_and_write(remaining)
                facts += facts_of_batch
                large += too_large
        return facts, large

    async def _fetch_and_write(
        self, files: Sequence[FileToLoad]
    ) -> tuple[list[EtlLoaded], list[FileToLoad], list[FileToLoad]]:
        """Return facts, large files, and objects that another process wrote meanwhile, which must be fetched again."""
        known = await self.tables.get_known(files)
        facts, to_fetch = self.split_known(files, known)
        small = [one for one in to_fetch if not diff.is_large(one[0], self.settings.etl_large_bytes)]
        large = [one for one, _ in to_fetch if diff.is_large(one, self.settings.etl_large_bytes)]
        fetched, too_large = await self.bucket.fetch_all(small)
        written = await self._write(fetched)
        written_keys = {one.fetched.file.object_key for one in written}
        facts += [fact_of(one) for one in written]
        return facts, [*large, *too_large], [one.file for one in fetched if one.file.object_key not in written_keys]

    def split_known(
        self, files: Sequence[FileToLoad], known: dict[tuple[str, str], KnownObject]
    ) -> tuple[list[EtlLoaded], list[tuple[FileToLoad, KnownObject]]]:
        """Split files into facts to republish and objects to fetch."""
        pairs = [(one, known[one.object_key]) for one in files]
        repeated = [
            repeated_fact(one, known_object) for one, known_object in pairs if diff.needs_republish(one, known_object)
        ]
        return repeated, [(one, known_object) for one, known_object in pairs if diff.needs_work(one, known_object)]

    async def _write(self, fetched: Sequence[FetchedFile]) -> list[WrittenFile]:
        if not fetched:
            return []
        dataset = fetched[0].file.dataset
        frame = frame_of([(position, one.rows) for position, one in enumerate(fetched)], dataset)
        checked = await asyncio.to_thread(check, frame, dataset, today=datetime.now(UTC).date())
        return await self.tables.write(dataset, fetched, checked)

    async def note_failure(self, file: FileToLoad, error: Exception) -> None:
        """Record, count and log that an object could not be loaded; ignore outages, which are retried."""
        if is_outage(error):
            return
        OBJECTS.labels(file.kind, "failed").inc()
        log.warning("object.not_loaded", bucket=file.bucket, key=file.key, reason=one_line(error))
        await self.tables.note_failure(file, failure_reason(error))

    async def enqueue_large(self, files: Sequence[FileToLoad]) -> None:
        """Enqueue large files as leased work."""
        for one in files:
            name = f"{one.bucket}/{one.key}#{one.revision or one.etag}"
            await self.files.add(name, to_payload([one]), correlation_id=one.correlation_id)


def failure_reason(error: Exception) -> str:
    """Return the reason to show for an object that could not be loaded; no row of it was checked."""
    return f"the object could not be loaded: {one_line(error)}; replay its dead letter or load the dataset again"


def to_payload(files: Sequence[FileToLoad]) -> dict[str, object]:
    """Return objects of one dataset as the payload of a work item."""
    objects = [
        [one.key, one.revision, one.size, one.etag, one.stored_at.isoformat() if one.stored_at else None]
        for one in files
    ]
    return {"dataset": files[0].dataset.name, "objects": objects}


def from_payload(payload: dict[str, object], datasets: Datasets, correlation_id: str) -> list[FileToLoad]:
    """Parse a payload of `to_payload`; skip objects that the dataset no longer claims.

    Raises:
        PenstockError: this process's file has no such dataset; another process may have a newer file.

    """
    dataset = datasets.by_name.get(str(payload["dataset"]))
    if dataset is None:
        raise PenstockError(f"this process's file of datasets has no {payload['dataset']}; another process's may")
    files = []
    for key, revision, size, etag, stored_at in payload["objects"]:  # type: ignore[attr-defined]
        kind = dataset.kind_of(dataset.bucket, key)
        time = datetime.fromisoformat(stored_at) if stored_at else None
        if kind is not None:
            files.append(FileToLoad(dataset.bucket, key, dataset, kind, revision, correlation_id, size, etag, time))
    return files


def change_of(file: FileToLoad) -> ObjectChanged:
    """Return the change event that a file was enqueued for, with the fields that etl uses."""
    return ObjectChanged(
        change="stored",
        bucket=file.bucket,
        key=file.key,
        size=file.size,
        revision=file.revision,
        correlation_id=file.correlation_id,
    )


def fact_of(written: WrittenFile) -> EtlLoaded:
    """Return the fact about an object that was written; count it."""
    fetched, file = written.fetched, written.fetched.file
    outcome = "removed" if fetched.etag is None else "rejected" if written.rejected else "loaded"
    OBJECTS.labels(file.kind, outcome).inc()
    ROWS.inc(written.rows)
    REJECTED.inc(written.rejected)
    now = KnownObject(
        etag=fetched.etag, size=fetched.size, rows=written.rows, rejected=written.rejected, reason=written.reason
    )
    return repeated_fact(file, now)


def failure_fact(file: FileToLoad, error: Exception) -> EtlLoaded:
    """Return the fact about an object that could not be loaded; its table still has the previous version."""
    return _loaded(file, etag=file.etag, size=file.size, change="stored", error=failure_reason(error))


def repeated_fact(file: FileToLoad, known: KnownObject) -> EtlLoaded:
    """Return the fact about the known state of an object."""
    return _loaded(
        file,
        etag=known.etag,
        size=known.size,
        change="removed" if known.etag is None else "stored",
        rows=known.rows,
        rejected=known.rejected,
        reason=known.reason,
    )


def _loaded(file: FileToLoad, **fetched: Any) -> EtlLoaded:
    return EtlLoaded(
        bucket=file.bucket,
        key=file.key,
        dataset=file.dataset.name,
        kind=file.kind,
        correlation_id=file.correlation_id,
        **fetched,
    )
