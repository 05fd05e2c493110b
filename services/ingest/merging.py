"""Merge the notification lanes into facts: decide from known objects and the bucket, publish, save."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from services.ingest.adapters.bucket import Bucket, Unreadable
from services.ingest.adapters.known_objects import KnownObjects
from services.ingest.core import decisions, notifications
from services.ingest.core.decisions import CurrentState, VersionKey
from services.ingest.core.sweeps import MAX_PENDING_SWEEPS
from services.ingest.settings import IngestSettings
from shared.bus import Bus, Received
from shared.errors import Outage, Rejected
from shared.events import ObjectChanged, stable_id
from shared.middleware.records import Record
from shared.topics import MINIO_SAFE
from shared.work import WorkQueue

NOTIFICATIONS = Counter("penstock_ingest_notices_total", "Notifications by lane and decision.", ["lane", "verdict"])

FOLDER_SWEEP_SECONDS = 60.0
"""Seconds in which a folder is swept at most once for removals without a notification."""
Notifications = tuple[ObjectChanged, ...]


def decode_record(record: Record) -> Notifications:
    """Decode one record of a lane."""
    return notifications.decode(record.value, "safe" if record.topic == MINIO_SAFE.name else "live")


@dataclass(frozen=True, slots=True)
class Merger:
    """Turns notifications into facts: get known objects, ask the bucket, decide, publish, save.

    Publish facts before saving them: a crash between the two republishes them under the same ids; the other order would
    lose them.
    """

    known_objects: KnownObjects
    bucket: Bucket
    bus: Bus
    sweeps: WorkQueue
    settings: IngestSettings

    async def merge(self, batch: Sequence[Received[Notifications]], *, final: bool = False) -> None:
        """Merge a batch; with `final`, reject unconfirmed notifications instead of verifying them later."""
        owners = {id(notification): received for received in batch for notification in self._admit(received)}
        admitted = [notification for received in batch for notification in received.event if id(notification) in owners]
        async with self.known_objects.publishing():
            outcome, unreadable = await self._decide(admitted, final=final)
            await self.bus.publish(outcome.facts)
            await self.known_objects.save(outcome)
        for notification in outcome.rejected:
            owners[id(notification)].reject(_not_removed(notification))
        await self._sweep_folders((*outcome.unnotified, *(outcome.to_verify if final else ())))
        if final and unreadable:
            raise Outage(
                f"{unreadable[0].bucket}/{unreadable[0].key} cannot be read while the object store serves others"
            )
        if final:
            for notification in outcome.to_verify:
                owners[id(notification)].reject(_no_such_object(notification))
        elif outcome.to_verify or unreadable:
            records = [owners[id(notification)].record for notification in (*outcome.to_verify, *unreadable)]
            await self.known_objects.add_pending(records, self.settings.doubt_seconds)

    async def _sweep_folders(self, unnotified: Iterable[ObjectChanged]) -> None:
        """Sweep the folders of objects that were removed without a notification: their neighbors may be removed too.

        MinIO sends none for removals with `x-minio-force-delete`, nor for writes and removals by replication.
        For an object outside any folder, sweep only its key; scheduled sweeps cover whole buckets.
        """
        prefixes = {(one.bucket, one.key[: one.key.rfind("/") + 1] or one.key) for one in unnotified}
        pending = (await self.sweeps.counts()).get("pending", 0) if prefixes else 0
        for bucket, prefix in sorted(prefixes)[: max(MAX_PENDING_SWEEPS - pending, 0)]:
            name = f"silence-{stable_id(bucket, prefix)}-{int(time.time() // FOLDER_SWEEP_SECONDS)}"
            await self.sweeps.add(name, {"buckets": [bucket], "prefix": prefix, "grace": 0.0})

    def _admit(self, received: Received[Notifications]) -> list[ObjectChanged]:
        safe = []
        for notification in received.event:
            try:
                notifications.reject_unsafe(notification, self.settings.input_buckets)
            except Rejected as rejection:
                received.reject(rejection)
            else:
                safe.append(notification)
        return [one for one in safe if not notifications.is_folder_marker(one.key, one.size)]

    async def _decide(
        self, admitted: list[ObjectChanged], *, final: bool
    ) -> tuple[decisions.Outcome, list[ObjectChanged]]:
        """Return the outcome of the notifications, and those about objects that are unreadable now."""
        known, clock = await self.known_objects.get(map(decisions.object_key_of, admitted))
        undecided = [
            one for one in admitted if decisions.decide_from_known(known.get(decisions.object_key_of(one)), one) is None
        ]
        current_states, unreadable = split_answers(await self.bucket.current_states(undecided))
        readable = [one for one in admitted if decisions.object_key_of(one) not in unreadable]
        outcome = decisions.decide_all(readable, known, current_states, clock=clock, final=final)
        for (lane, decision), count in outcome.decisions.items():
            NOTIFICATIONS.labels(lane, decision).inc(count)
        return outcome, [one for one in admitted if decisions.object_key_of(one) in unreadable]


def split_answers(
    answers: Mapping[VersionKey, CurrentState | Unreadable | None],
) -> tuple[dict[VersionKey, CurrentState | None], set[decisions.ObjectKey]]:
    """Split the bucket's answers into current states and keys of unreadable objects."""
    current_states = {version: one for version, one in answers.items() if not isinstance(one, Unreadable)}
    return current_states, {version[:2] for version, one in answers.items() if isinstance(one, Unreadable)}


def _no_such_object(notification: ObjectChanged) -> Rejected:
    return Rejected(
        "NO_SUCH_OBJECT",
        f"{notification.bucket}/{notification.key} was announced as stored but does not exist, "
        "and no removal was announced: discard the event; it is forged, or the removal was not notified",
    )


def _not_removed(notification: ObjectChanged) -> Rejected:
    return Rejected(
        "NOT_REMOVED",
        f"{notification.bucket}/{notification.key} was announced as removed but exists and is older than the removal: "
        "discard the event; it is forged",
    )
