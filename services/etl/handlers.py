"""Changes and requests in; rows, images and loads out."""

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
from services.etl.adapters.tables import Tables, Written
from services.etl.core import differences
from services.etl.core.checking import check, frame_of
from services.etl.core.datasets import Datasets
from services.etl.core.values import Found, Known, Wanted
from services.etl.settings import EtlSettings
from shared.bus import Received, Router
from shared.errors import PenstockError, Rejected, one_line
from shared.events import EtlLoaded, EtlRequested, ObjectChanged, ObjectHashed
from shared.outages import is_outage
from shared.work import WorkQueue

log = structlog.get_logger()
router = Router("etl")

OBJECTS = Counter("penstock_etl_objects_total", "Files and images by what became of them.", ["kind", "outcome"])
ROWS = Counter("penstock_etl_rows_total", "Good rows of the files that were read.")
REJECTED = Counter("penstock_etl_rejected_rows_total", "Rows that are no rows of their table.")

MAX_PENDING_LOADS = 1000
BUNCH_OBJECTS = 1000
BUNCH_BYTES = 8 << 20


@router.on(ObjectChanged, publishes=[EtlLoaded])
async def load_objects(batch: Sequence[Received[ObjectChanged]], loading: "Loading") -> list[EtlLoaded]:
    """Make the tables follow the bucket where something changed in it."""
    wanted = [loading.wanted(received.event) for received in batch]
    newest = differences.newest(one for one in wanted if one is not None)
    try:
        return await loading.load(newest)
    except Exception as error:
        # of a batch that fails the culprit comes once more alone, before it is a dead letter
        if len(newest) == 1:
            await loading.note_failure(newest[0], error)
        raise


@router.on(ObjectHashed)
async def keep_digests(batch: Sequence[Received[ObjectHashed]], loading: "Loading") -> None:
    """Keep what the hasher says of files and images."""
    newest = {(one.event.bucket, one.event.key): one.event for one in sorted(batch, key=lambda one: one.event.revision)}
    claims = [(fact, loading.datasets.claim(*place)) for place, fact in newest.items()]
    claimed = [(fact, *claim) for fact, claim in claims if claim is not None]
    if claimed:
        await loading.tables.keep_digests(claimed)


@router.on(EtlRequested)
async def request_load(batch: Sequence[Received[EtlRequested]], loading: "Loading") -> None:
    """Put the loads that are asked for among the work; past so many that wait, no more."""
    waiting = (await loading.loads.queue.counts()).get("pending", 0)
    for received in batch:
        if waiting >= MAX_PENDING_LOADS:
            reason = f"{waiting} loads wait already: ask again when they are done"
            received.reject(Rejected("TOO_MANY_LOADS", reason))
        elif received.event.dataset in loading.datasets.by_name:
            await loading.loads.request(received.event, why="requested")
            waiting += 1
        else:
            there = ", ".join(sorted(loading.datasets.by_name))
            reason = f"there is no dataset {received.event.dataset!r}; ask for one of {there}"
            received.reject(Rejected("UNKNOWN_DATASET", reason))


@dataclass(frozen=True, slots=True)
class Loading:
    """The one way from an object that may have changed to what its dataset's table says; events and loads share it."""

    datasets: Datasets
    bucket: Bucket
    tables: Tables
    loads: Loads
    files: WorkQueue
    settings: EtlSettings

    def wanted(self, change: ObjectChanged) -> Wanted | None:
        """Return what an event asks to look at; None: the object is nobody's."""
        claim = self.datasets.claim(change.bucket, change.key)
        if claim is None:
            return None
        # 0 would say that a listing tells; one that is ahead would outdate every later change
        revision = max(min(change.revision, time.time_ns() // 1000), 1)
        return Wanted(change.bucket, change.key, *claim, revision, change.correlation_id, change.size)

    async def load(self, wanted: Sequence[Wanted]) -> list[EtlLoaded]:
        """Look at objects, write what follows, and return what became of each; large files become leased work."""
        facts, large = await self.follow(wanted)
        await self.postpone(large)
        return facts

    async def follow(self, wanted: Sequence[Wanted]) -> tuple[list[EtlLoaded], list[Wanted]]:
        """Look at objects and write what follows; return what became of each, and which are too large for that."""
        facts: list[EtlLoaded] = []
        large: list[Wanted] = []
        for bunch in differences.bunches(wanted, most=BUNCH_OBJECTS, most_bytes=BUNCH_BYTES):
            left = bunch
            while left:
                more, larger, left = await self._look_and_write(left)
                facts += more
                large += larger
        return facts, large

    async def _look_and_write(self, wanted: Sequence[Wanted]) -> tuple[list[EtlLoaded], list[Wanted], list[Wanted]]:
        """Return facts, large files, and what somebody else wrote in the meantime: that is looked at again."""
        known = await self.tables.recall(wanted)
        facts, news = self.sort(wanted, known)
        small = [one for one in news if not differences.is_large(one[0], self.settings.etl_large_bytes)]
        large = [one for one, _ in news if differences.is_large(one, self.settings.etl_large_bytes)]
        found, larger = await self.bucket.look_all(small)
        written = await self._write(found)
        done = {one.found.wanted.place for one in written}
        facts += [fact_of(one) for one in written]
        return facts, [*large, *larger], [one.wanted for one in found if one.wanted.place not in done]

    def sort(
        self, wanted: Sequence[Wanted], known: dict[tuple[str, str], Known]
    ) -> tuple[list[EtlLoaded], list[tuple[Wanted, Known]]]:
        """Part what is known already, with its facts to be told once more, from what has to be looked at."""
        pairs = [(one, known[one.place]) for one in wanted]
        again = [fact_again(one, mine) for one, mine in pairs if differences.is_told_again(one, mine)]
        return again, [(one, mine) for one, mine in pairs if differences.is_news(one, mine)]

    async def _write(self, found: Sequence[Found]) -> list[Written]:
        if not found:
            return []
        dataset = found[0].wanted.dataset
        frame = frame_of([(position, one.rows) for position, one in enumerate(found)], dataset)
        checked = await asyncio.to_thread(check, frame, dataset, today=datetime.now(UTC).date())
        return await self.tables.write(dataset, found, checked)

    async def note_failure(self, wanted: Wanted, error: Exception) -> None:
        """Show everywhere that an object could not be loaded; an outage is no failure, it passes."""
        if is_outage(error):
            return
        OBJECTS.labels(wanted.kind, "failed").inc()
        log.warning("object.not_loaded", bucket=wanted.bucket, key=wanted.key, reason=one_line(error))
        await self.tables.note_failure(wanted, failure_of(error))

    async def postpone(self, wanted: Sequence[Wanted]) -> None:
        """Turn large files into leased work."""
        for one in wanted:
            name = f"{one.bucket}/{one.key}#{one.revision or one.etag}"
            await self.files.add(name, payload_of([one]), correlation_id=one.correlation_id)


def failure_of(error: Exception) -> str:
    """Say that an object could not be loaded, and why; not a fault of its rows, which are not looked at then."""
    return f"the object could not be loaded: {one_line(error)}; replay its dead letter or load the dataset again"


def payload_of(wanted: Sequence[Wanted]) -> dict[str, object]:
    """Return objects of one dataset as a queue keeps them."""
    objects = [
        [one.key, one.revision, one.size, one.etag, one.stored_at.isoformat() if one.stored_at else None]
        for one in wanted
    ]
    return {"dataset": wanted[0].dataset.name, "objects": objects}


def wanted_of(payload: dict[str, object], datasets: Datasets, correlation_id: str) -> list[Wanted]:
    """Read what `payload_of` wrote; what the dataset does not claim any more is left out.

    Raises PenstockError for a dataset that this process's file does not have: another process may have a newer one.
    """
    dataset = datasets.by_name.get(str(payload["dataset"]))
    if dataset is None:
        raise PenstockError(f"this process's file of datasets has no {payload['dataset']}; another process's may")
    wanted = []
    for key, revision, size, etag, stored_at in payload["objects"]:  # type: ignore[attr-defined]
        kind = dataset.kind_of(dataset.bucket, key)
        time = datetime.fromisoformat(stored_at) if stored_at else None
        if kind is not None:
            wanted.append(Wanted(dataset.bucket, key, dataset, kind, revision, correlation_id, size, etag, time))
    return wanted


def change_of(wanted: Wanted) -> ObjectChanged:
    """Return the change that asked for a file, as far as it matters here."""
    return ObjectChanged(
        change="stored",
        bucket=wanted.bucket,
        key=wanted.key,
        size=wanted.size,
        revision=wanted.revision,
        correlation_id=wanted.correlation_id,
    )


def fact_of(written: Written) -> EtlLoaded:
    """Return what is told of an object that was written."""
    found, wanted = written.found, written.found.wanted
    outcome = "removed" if found.etag is None else "rejected" if written.rejected else "loaded"
    OBJECTS.labels(wanted.kind, outcome).inc()
    ROWS.inc(written.rows)
    REJECTED.inc(written.rejected)
    now = Known(etag=found.etag, size=found.size, rows=written.rows, rejected=written.rejected, reason=written.reason)
    return fact_again(wanted, now)


def fact_of_failure(wanted: Wanted, error: Exception) -> EtlLoaded:
    """Return what is told of an object that could not be loaded; its rows are those of the version before."""
    return _loaded(wanted, etag=wanted.etag, size=wanted.size, change="stored", error=failure_of(error))


def fact_again(wanted: Wanted, known: Known) -> EtlLoaded:
    """Return what was told of an object that was written before, or was to be told."""
    return _loaded(
        wanted,
        etag=known.etag,
        size=known.size,
        change="removed" if known.etag is None else "stored",
        rows=known.rows,
        rejected=known.rejected,
        reason=known.reason,
    )


def _loaded(wanted: Wanted, **found: Any) -> EtlLoaded:
    return EtlLoaded(
        bucket=wanted.bucket,
        key=wanted.key,
        dataset=wanted.dataset.name,
        kind=wanted.kind,
        correlation_id=wanted.correlation_id,
        **found,
    )
