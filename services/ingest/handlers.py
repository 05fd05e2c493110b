"""Lanes in, facts out; and the sweep that finds what no lane brought."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import Counter

from services.ingest.adapters.bucket import Bucket, Stuck
from services.ingest.adapters.memory import Memory
from services.ingest.core import decisions, notices
from services.ingest.core.decisions import Truth, Version
from services.ingest.core.notices import Notification
from services.ingest.settings import IngestSettings
from shared.bus import Bus, Received, Router
from shared.errors import Outage, Rejected
from shared.events import ObjectChanged, SweepRequested, stable_id
from shared.middleware.records import Record
from shared.topics import MINIO_LIVE, MINIO_SAFE
from shared.work import WorkQueue

log = structlog.get_logger()
router = Router("ingest")

NOTICES = Counter("penstock_ingest_notices_total", "Notices by lane and what they came to.", ["lane", "verdict"])

MAX_PENDING_SWEEPS = 100
MAX_RECORDS = 8000
"""All that one fetch brings of both topics. The keys of one partition are spread over a bucket, so one listing for all
partitions reads a third of the entries that listings for one after another read (measured)."""
SILENCE_SLOT = 60.0
"""Seconds in which a folder is swept once for what was removed in it without a notification."""
Notices = tuple[ObjectChanged, ...]


def read(record: Record) -> Notices:
    """Read one record of a lane."""
    return notices.decode(record.value, "safe" if record.topic == MINIO_SAFE.name else "live")


@router.consumes(
    MINIO_LIVE, MINIO_SAFE, decode=read, payload=Notification, max_records=MAX_RECORDS, publishes=[ObjectChanged]
)
async def merge_lanes(batch: Sequence[Received[Notices]], merger: "Merger") -> None:
    """Merge the two notification lanes into one fact per change; garbage, forgeries and strangers are dead letters."""
    await merger.merge(batch)


@router.on(SweepRequested)
async def request_sweep(batch: Sequence[Received[SweepRequested]], sweeps: WorkQueue, settings: IngestSettings) -> None:
    """Put requested sweeps among the work, once each; past so many that wait, no more."""
    waiting = (await sweeps.counts()).get("pending", 0)
    for received in batch:
        wanted = received.event
        if waiting >= MAX_PENDING_SWEEPS:
            received.reject(Rejected("TOO_MANY_SWEEPS", f"{waiting} sweeps wait already: ask again when they are done"))
            continue
        if strangers := set(wanted.buckets) - set(settings.input_buckets):
            received.reject(Rejected("FOREIGN_BUCKET", f"no input bucket: {', '.join(sorted(strangers))!a}"))
            continue
        payload = {"buckets": list(wanted.buckets), "prefix": wanted.prefix, "grace": 0.0, "retell": wanted.retell}
        waiting += await sweeps.add(wanted.sweep_id, payload, correlation_id=wanted.correlation_id)


@dataclass(frozen=True, slots=True)
class Merger:
    """Turns notices into facts: recall, ask the bucket, judge, tell, remember.

    Facts are told before they are remembered: a crash between the two tells them again under the same ids, while the
    other order would forget to tell them at all.
    """

    memory: Memory
    bucket: Bucket
    bus: Bus
    sweeps: WorkQueue
    settings: IngestSettings

    async def merge(self, batch: Sequence[Received[Notices]], *, last_word: bool = False) -> None:
        """Merge a batch; with `last_word`, what is still in doubt is refused instead of kept."""
        owners = {id(notice): received for received in batch for notice in self._admitted(received)}
        admitted = [notice for received in batch for notice in received.event if id(notice) in owners]
        async with self.memory.telling():
            outcome, stuck = await self._judge(admitted, last_word=last_word)
            await self.bus.publish(outcome.facts)
            await self.memory.remember(outcome)
        for notice in outcome.false:
            owners[id(notice)].reject(_not_removed(notice))
        await self._sweep_silent((*outcome.silent, *(outcome.doubtful if last_word else ())))
        if last_word and stuck:
            raise Outage(f"the object store cannot tell what became of {stuck[0].bucket}/{stuck[0].key}")
        if last_word:
            for notice in outcome.doubtful:
                owners[id(notice)].reject(_no_such_object(notice))
        elif outcome.doubtful or stuck:
            doubted = [owners[id(notice)].record for notice in (*outcome.doubtful, *stuck)]
            await self.memory.doubt(doubted, self.settings.doubt_seconds)

    async def _sweep_silent(self, silent: Iterable[ObjectChanged]) -> None:
        """Sweep the folders of objects that went without a notification, as all that is in them may have.

        MinIO sends none for a removal with `x-minio-force-delete`, nor for what replication writes or removes.
        An object outside of any folder is looked at alone: a whole bucket is swept by the clock.
        """
        prefixes = {(one.bucket, one.key[: one.key.rfind("/") + 1] or one.key) for one in silent}
        waiting = (await self.sweeps.counts()).get("pending", 0) if prefixes else 0
        for bucket, prefix in sorted(prefixes)[: max(MAX_PENDING_SWEEPS - waiting, 0)]:
            name = f"silence-{stable_id(bucket, prefix)}-{int(time.time() // SILENCE_SLOT)}"
            await self.sweeps.add(name, {"buckets": [bucket], "prefix": prefix, "grace": 0.0})

    def _admitted(self, received: Received[Notices]) -> list[ObjectChanged]:
        wanted = []
        for notice in received.event:
            try:
                notices.refuse_unsafe(notice, self.settings.input_buckets)
            except Rejected as refusal:
                received.reject(refusal)
            else:
                wanted.append(notice)
        return [one for one in wanted if not notices.is_folder_marker(one.key, one.size)]

    async def _judge(
        self, admitted: list[ObjectChanged], *, last_word: bool
    ) -> tuple[decisions.Outcome, list[ObjectChanged]]:
        """Return what the notices come to, and those about objects that cannot be looked at now."""
        known, clock = await self.memory.recall(map(decisions.place_of, admitted))
        untold = [one for one in admitted if decisions.is_told(known.get(decisions.place_of(one)), one) is None]
        truths, stuck = sort_truths(await self.bucket.truths(untold))
        judged = [one for one in admitted if decisions.place_of(one) not in stuck]
        outcome = decisions.judge(judged, known, truths, clock=clock, last_word=last_word)
        for (lane, verdict), count in outcome.verdicts.items():
            NOTICES.labels(lane, verdict).inc(count)
        return outcome, [one for one in admitted if decisions.place_of(one) in stuck]


def sort_truths(
    answers: Mapping[Version, Truth | Stuck | None],
) -> tuple[dict[Version, Truth | None], set[decisions.Place]]:
    """Part what the bucket answered from the places it cannot tell about now."""
    truths = {version: one for version, one in answers.items() if not isinstance(one, Stuck)}
    return truths, {version[:2] for version, one in answers.items() if isinstance(one, Stuck)}


def _no_such_object(notice: ObjectChanged) -> Rejected:
    return Rejected(
        "NO_SUCH_OBJECT",
        f"{notice.bucket}/{notice.key} was announced as stored but is not there, and no removal was announced either: "
        "a forged event, or an object removed without a notification",
    )


def _not_removed(notice: ObjectChanged) -> Rejected:
    return Rejected(
        "NOT_REMOVED",
        f"{notice.bucket}/{notice.key} was announced as removed but is there, and older than that: a forged event",
    )
