"""Lanes in, facts out; and the sweep that finds what no lane brought."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import Counter

from services.ingest.adapters.bucket import Bucket
from services.ingest.adapters.memory import Memory
from services.ingest.core import decisions, notices
from services.ingest.core.notices import Notification
from services.ingest.settings import IngestSettings
from shared.bus import Bus, Received, Router
from shared.errors import Rejected
from shared.events import ObjectChanged, SweepRequested
from shared.middleware.records import Record
from shared.topics import MINIO_LIVE, MINIO_SAFE
from shared.work import WorkQueue

log = structlog.get_logger()
router = Router("ingest")

NOTICES = Counter("penstock_ingest_notices_total", "Notices by lane and what they came to.", ["lane", "verdict"])

Notices = tuple[ObjectChanged, ...]


def read(record: Record) -> Notices:
    """Read one record of a lane."""
    return notices.decode(record.value, "safe" if record.topic == MINIO_SAFE.name else "live")


@router.consumes(MINIO_LIVE, MINIO_SAFE, decode=read, payload=Notification, max_records=2000, publishes=[ObjectChanged])
async def merge_lanes(batch: Sequence[Received[Notices]], merger: "Merger") -> None:
    """Merge the two notification lanes into one fact per change; garbage, forgeries and strangers are dead letters."""
    await merger.merge(batch)


@router.on(SweepRequested)
async def request_sweep(batch: Sequence[Received[SweepRequested]], sweeps: WorkQueue, settings: IngestSettings) -> None:
    """Put requested sweeps among the work, once each."""
    for received in batch:
        wanted = received.event
        if strangers := set(wanted.buckets) - set(settings.input_buckets):
            received.reject(Rejected("FOREIGN_BUCKET", f"no input bucket: {', '.join(sorted(strangers))!a}"))
            continue
        payload = {"buckets": list(wanted.buckets), "prefix": wanted.prefix, "grace": 0.0, "retell": wanted.retell}
        await sweeps.add(wanted.sweep_id, payload, correlation_id=wanted.correlation_id)


@dataclass(frozen=True, slots=True)
class Merger:
    """Turns notices into facts: recall, ask the bucket, judge, tell, remember.

    Facts are told before they are remembered: a crash between the two tells them again under the same ids, while the
    other order would forget to tell them at all.
    """

    memory: Memory
    bucket: Bucket
    bus: Bus
    settings: IngestSettings

    async def merge(self, batch: Sequence[Received[Notices]], *, last_word: bool = False) -> None:
        """Merge a batch; with `last_word`, what is still in doubt is refused instead of kept."""
        owners = {id(notice): received for received in batch for notice in self._admitted(received)}
        admitted = [notice for received in batch for notice in received.event if id(notice) in owners]
        async with self.memory.telling():
            outcome = await self._judge(admitted)
            await self.bus.publish(outcome.facts)
            await self.memory.remember(outcome)
        for notice in outcome.false:
            owners[id(notice)].reject(_not_removed(notice))
        if last_word:
            for notice in outcome.doubtful:
                owners[id(notice)].reject(_no_such_object(notice))
        elif outcome.doubtful:
            doubted = [owners[id(notice)].record for notice in outcome.doubtful]
            await self.memory.doubt(doubted, self.settings.doubt_seconds)

    def _admitted(self, received: Received[Notices]) -> list[ObjectChanged]:
        wanted = []
        for notice in received.event:
            try:
                notices.refuse_unsafe(notice, frozenset(self.settings.input_buckets))
            except Rejected as refusal:
                received.reject(refusal)
            else:
                wanted.append(notice)
        return [one for one in wanted if not notices.is_folder_marker(one.key, one.size)]

    async def _judge(self, admitted: list[ObjectChanged]) -> decisions.Outcome:
        known, clock = await self.memory.recall(map(decisions.place_of, admitted))
        untold = [one for one in admitted if decisions.is_told(known.get(decisions.place_of(one)), one) is None]
        truths = await self.bucket.truths(untold)
        outcome = decisions.judge(admitted, known, truths, clock=clock)
        for (lane, verdict), count in outcome.verdicts.items():
            NOTICES.labels(lane, verdict).inc(count)
        return outcome


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
