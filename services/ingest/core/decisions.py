"""Decide what to do with each notification, as pure values.

Both lanes deliver every event: late, twice and sometimes out of order. `decide_all` compares notifications with the
known objects and with the bucket's current state; where they disagree, the bucket is right. If the bucket described the
object, the fact takes its fields from the bucket, and the notification only names the key.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from services.ingest.core.notifications import ObjectNotification, State
from shared.events import ObjectChanged

SEQUENCER_WIDTH = 64
TIME_TOLERANCE = timedelta(seconds=5)
"""Maximum difference between the time of an event and the Last-Modified of its object."""
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def sequencer_order(sequencer: str) -> str:
    """Return a sequencer as text that sorts by age: padded on the right with zeros, as S3 specifies."""
    return sequencer.upper().ljust(SEQUENCER_WIDTH, "0")


@dataclass(frozen=True, slots=True)
class KnownObject:
    """The latest known state of a key; without a sequencer, a sweep found it."""

    state: State
    version_id: str | None
    etag: str | None
    sequencer: str | None
    revision: int
    correlation_id: str = ""
    size: int | None = field(default=None, compare=False)
    content_type: str | None = field(default=None, compare=False)
    metadata: Mapping[str, str] | None = field(default=None, compare=False)
    last_modified: datetime | None = field(default=None, compare=False)
    announced: bool = field(default=True, compare=False)
    """False for the removal of an unknown object: stored to recognize late copies, but not published."""


@dataclass(frozen=True, slots=True)
class CurrentState:
    """What the bucket holds under a key now; `size` is None when the object was not described."""

    etag: str
    last_modified: datetime
    version_id: str | None = None
    size: int | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_described(self) -> bool:
        """Whether this alone suffices to build a fact."""
        return self.size is not None


class Decision(enum.StrEnum):
    """What to do with a notification; the values are labels of `penstock_ingest_notices_total`."""

    PUBLISH = "news"
    """Publish and save it."""
    PUBLISH_CURRENT = "returned"
    """The bucket holds a version that is not the known one and gets no notification: publish that version."""
    ADOPT_SEQUENCER = "adopt"
    """A sweep published it already, or nothing changes: save only the sequencer."""
    SAVE_UNPUBLISHED = "absent"
    """Removal of an unknown object: publish no fact, save only the sequencer."""
    DUPLICATE = "duplicate"
    """The other lane or an earlier delivery was published already."""
    STALE = "stale"
    """A newer state is known or stored, and the bucket confirms it."""
    VERIFY_LATER = "doubtful"
    """Announced as stored, but the bucket holds no object or another one: removed, overwritten or forged.

    Verify it later, unless another notification explains it first.
    """
    PUBLISH_REMOVAL = "gone"
    """Announced as stored before a removal that was not published, as the object was unknown: publish the removal."""
    REJECT = "false"
    """Announced as removed, but the bucket holds an object that is older than the removal: reject it."""


def decide_from_known(known: KnownObject | None, notification: ObjectChanged) -> Decision | None:
    """Return the decision if the known object suffices (already published); None if the bucket must be asked."""
    if known is None:
        return None
    if known.sequencer is not None and notification.sequencer is not None:
        return Decision.DUPLICATE if _is_repeat(known, notification) else None
    if notification.seen_by == "sweep" and notification.change == "stored":
        return Decision.DUPLICATE if is_same(known, _as_current_state(notification)) else None
    if _hint_of(notification) is None and not _differs(notification, known):
        return (
            Decision.ADOPT_SEQUENCER
            if known.sequencer is None and notification.sequencer is not None
            else Decision.DUPLICATE
        )
    return None


def _is_repeat(known: KnownObject, notification: ObjectChanged) -> bool:
    """Whether a notification with a sequencer repeats the known state; a version is stored only once."""
    if notification.change == "stored" and notification.version_id is not None and not _differs(notification, known):
        return True
    is_same_event = sequencer_order(known.sequencer or "") == sequencer_order(notification.sequencer or "")
    is_other_version = notification.change == "removed" and notification.version_id not in {None, known.version_id}
    return is_same_event and (known.state == notification.change or is_other_version)


def decide_with_bucket(
    known: KnownObject | None, notification: ObjectChanged, current: CurrentState | None
) -> Decision:
    """Decide with the bucket's current state what the known object alone could not decide."""
    if notification.change == "removed":
        return (
            _decide_removal_of_missing(known, notification)
            if current is None
            else _decide_removal_of_existing(known, notification, current)
        )
    if current is not None and current.is_described:
        return _decide_described(known, notification, current)
    if _is_unannounced(known, notification, current):
        return Decision.PUBLISH_REMOVAL
    if known is not None and not _is_newer(notification, known):
        return (
            Decision.PUBLISH
            if _is_confirmed(notification, current) and _differs(notification, known)
            else Decision.STALE
        )
    return Decision.VERIFY_LATER if current is None else Decision.PUBLISH


def _decide_removal_of_missing(known: KnownObject | None, notification: ObjectChanged) -> Decision:
    """Decide on a removal when the bucket holds no object under its key."""
    if known is None:
        return Decision.SAVE_UNPUBLISHED
    if known.state == "stored":
        return Decision.PUBLISH
    return Decision.ADOPT_SEQUENCER if _is_newer(notification, known) else Decision.STALE


def _decide_removal_of_existing(
    known: KnownObject | None, notification: ObjectChanged, current: CurrentState
) -> Decision:
    """Decide on a removal when the bucket holds an object: stored afterwards, or an older version is current again.

    Only a removal in a bucket without versioning can be false: the object exists and is older than the removal.
    """
    is_after = _is_stored_after(notification, current)
    if _is_unversioned(notification) and current.version_id is None:
        return Decision.STALE if is_after or (known and not _is_newer(notification, known)) else Decision.REJECT
    if _is_known(known, current):
        return Decision.ADOPT_SEQUENCER if known is not None and _is_newer(notification, known) else Decision.STALE
    is_announced = (
        current.version_id is None and is_after and current.last_modified > _without_microseconds(notification)
    )
    return Decision.STALE if is_announced or notification.seen_by == "sweep" else Decision.PUBLISH_CURRENT


def _is_unannounced(known: KnownObject | None, notification: ObjectChanged, current: CurrentState | None) -> bool:
    """Whether the notification proves that an unpublished removal did remove an object."""
    return known is not None and not known.announced and current is None and not _is_newer(notification, known)


def _is_unversioned(notification: ObjectChanged) -> bool:
    return notification.version_id is None and _hint_of(notification) is None


def _hint_of(notification: ObjectChanged) -> str | None:
    return notification.hint if isinstance(notification, ObjectNotification) else None


def _without_microseconds(notification: ObjectChanged) -> datetime:
    return (notification.occurred_at or _EARLIEST).replace(microsecond=0)


def _is_stored_after(notification: ObjectChanged, current: CurrentState) -> bool:
    """Whether the object may have been stored after the removal."""
    return notification.occurred_at is None or current.last_modified >= _without_microseconds(notification)


def _is_known(known: KnownObject | None, current: CurrentState) -> bool:
    """Whether the current version is the known one; a version id is enough, since versions are immutable."""
    if known is None or current.version_id is None:
        return known is not None and is_same(known, current)
    return (known.state, known.etag, known.version_id) == ("stored", current.etag, current.version_id)


def _decide_described(known: KnownObject | None, notification: ObjectChanged, current: CurrentState) -> Decision:
    """Decide on a `stored` notification of an existing object that the bucket described."""
    is_about_it = notification.etag in {None, current.etag} and notification.version_id in {None, current.version_id}
    if known is not None and is_same(known, current):
        if not _is_newer(notification, known):
            return Decision.STALE
        return Decision.PUBLISH if is_about_it else Decision.DUPLICATE
    return Decision.PUBLISH if is_about_it else Decision.VERIFY_LATER


def is_same(known: KnownObject, current: CurrentState) -> bool:
    """Whether the known version equals the one in the bucket in every known field."""
    compared = (
        (known.size, current.size),
        (known.content_type, current.content_type),
        (known.metadata, current.metadata),
    )
    return (
        (known.state, known.etag, known.version_id) == ("stored", current.etag, current.version_id)
        and all(before is None or before == now for before, now in compared)
        and is_same_time(known.last_modified, current.last_modified)
    )


def is_same_time(known: datetime | None, current: datetime) -> bool:
    """Whether two times of an object agree; the known one may be that of its event."""
    return known is None or abs(known - current) <= TIME_TOLERANCE


def _as_current_state(found: ObjectChanged) -> CurrentState:
    """Return what a sweep found as the bucket's current state."""
    at = found.occurred_at or _EARLIEST
    return CurrentState(found.etag or "", at, found.version_id, found.size, found.content_type, found.metadata)


def _is_newer(notification: ObjectChanged, known: KnownObject) -> bool:
    if notification.sequencer is None or known.sequencer is None:
        return False
    return sequencer_order(notification.sequencer) > sequencer_order(known.sequencer)


def _is_confirmed(notification: ObjectChanged, current: CurrentState | None) -> bool:
    if notification.change == "removed" or current is None:
        return (notification.change == "removed") == (current is None)
    return current.etag == notification.etag and notification.version_id in (None, current.version_id)


def _differs(notification: ObjectChanged, known: KnownObject) -> bool:
    return (known.state, known.etag, known.version_id) != (
        notification.change,
        notification.etag,
        notification.version_id,
    )


def known_after(known: KnownObject | None, fact: ObjectChanged) -> KnownObject:
    """Return the known state after `fact`; keep the highest sequencer, so that no older copy counts as newer."""
    highest = max(
        (one for one in (known and known.sequencer, fact.sequencer) if one), key=sequencer_order, default=None
    )
    return KnownObject(
        fact.change,
        fact.version_id,
        fact.etag,
        highest,
        fact.revision,
        fact.correlation_id,
        size=fact.size,
        content_type=fact.content_type,
        metadata=fact.metadata,
        last_modified=fact.occurred_at,
    )


def age_order(notification: ObjectChanged) -> tuple[str, datetime]:
    """Return the sort key for notifications of one object: sequencer, then time."""
    return (sequencer_order(notification.sequencer or ""), notification.occurred_at or _EARLIEST)


ObjectKey = tuple[str, str]
"""Bucket and key."""
VersionKey = tuple[str, str, str | None]
"""Bucket, key and version id; None means the current version."""


def object_key_of(notification: ObjectChanged) -> ObjectKey:
    """Return bucket and key of a notification."""
    return notification.bucket, notification.key


def current_version_of(notification: ObjectChanged) -> VersionKey:
    """Return the key of the current version, whichever version the notification names."""
    return notification.bucket, notification.key, None


def removed_version_of(notification: ObjectChanged) -> VersionKey | None:
    """Return the version that a removal names, which must be checked as well; None if it names none."""
    if notification.change == "stored" or notification.version_id is None:
        return None
    return notification.bucket, notification.key, notification.version_id


@dataclass(slots=True)
class Outcome:
    """The result of a batch: `facts` in publishing order, and the state of each key after them."""

    facts: list[ObjectChanged] = field(default_factory=list)
    states: dict[ObjectKey, tuple[ObjectChanged, KnownObject]] = field(default_factory=dict)
    adopted: list[ObjectChanged] = field(default_factory=list)
    to_verify: list[ObjectChanged] = field(default_factory=list)
    unnotified: list[ObjectChanged] = field(default_factory=list)
    """Notifications that reveal a removal without a notification of its own; neighbors may be removed too."""
    rejected: list[ObjectChanged] = field(default_factory=list)
    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)


def decide_all(
    notifications: Iterable[ObjectChanged],
    known: Mapping[ObjectKey, KnownObject],
    current_states: Mapping[VersionKey, CurrentState | None],
    *,
    clock: int,
    final: bool = False,
) -> Outcome:
    """Decide on a batch, oldest first; new revisions start above `clock`, the database clock in microseconds.

    With `final`, wait for no other notification: publish what the bucket holds instead of the announced object.
    """
    outcome = Outcome()
    states = dict(known)
    by_age = sorted(notifications, key=age_order)
    removed = {object_key_of(one): age_order(one) for one in by_age if one.change == "removed"}
    for notification in by_age:
        key, previous = object_key_of(notification), states.get(object_key_of(notification))
        state = current_states.get(current_version_of(notification))
        if (noncurrent := _noncurrent_version(notification, current_states, state)) is not None:
            state, decision = noncurrent, _decide_noncurrent(previous, notification, state)
        else:
            decision = decide_from_known(previous, notification) or decide_with_bucket(previous, notification, state)
        if (
            decision is Decision.VERIFY_LATER
            and state is None
            and removed.get(key, age_order(notification)) > age_order(notification)
        ):
            decision = Decision.PUBLISH
        if decision is Decision.VERIFY_LATER and state is not None and final:
            decision = Decision.PUBLISH
        outcome.decisions[notification.seen_by, decision.value] += 1
        is_version_gone = (
            current_states.get(removed_version_of(notification) or current_version_of(notification), state) is None
        )
        for fact in _facts(decision, notification, previous, state, is_version_gone=is_version_gone):
            clock = max(clock, previous.revision if previous else 0) + 1
            _add_fact(outcome, states, _to_fact(fact, previous, clock, state))
        clock = _add_result(outcome, states, decision, notification, clock)
    return outcome


def _facts(
    decision: Decision,
    notification: ObjectChanged,
    previous: KnownObject | None,
    current: CurrentState | None,
    *,
    is_version_gone: bool,
) -> list[ObjectChanged]:
    """Return the changes to publish; for a removal also the loss of a version and what is current instead."""
    if decision is Decision.PUBLISH_REMOVAL and previous is not None:
        gone = {"change": "removed", "version_id": None, "etag": None, "size": None, "content_type": None}
        return [
            notification.model_copy(
                update={**gone, "sequencer": previous.sequencer, "occurred_at": previous.last_modified}
            )
        ]
    if notification.change == "stored":
        return [notification] if decision is Decision.PUBLISH else []
    facts = []
    if _is_loss_of_version(notification, previous) and is_version_gone and decision is not Decision.DUPLICATE:
        is_current_lost = (
            decision is Decision.PUBLISH and previous is not None and previous.version_id == notification.version_id
        )
        facts += [] if is_current_lost else [notification]
    if decision is Decision.PUBLISH:
        facts.append(notification.model_copy(update={"version_id": None}))
    elif decision is Decision.PUBLISH_CURRENT and current is not None:
        facts.append(notification.model_copy(update={"change": "stored", **_described_fields(current)}))
    return facts


def _is_loss_of_version(notification: ObjectChanged, previous: KnownObject | None) -> bool:
    return notification.version_id is not None and previous is not None and previous.announced


def _add_result(
    outcome: Outcome, states: dict[ObjectKey, KnownObject], decision: Decision, notification: ObjectChanged, clock: int
) -> int:
    """Add the results of a decision other than facts; return the clock."""
    key, previous = object_key_of(notification), states.get(object_key_of(notification))
    if decision is Decision.ADOPT_SEQUENCER and previous is not None:
        outcome.adopted.append(notification)
        states[key] = replace(previous, sequencer=notification.sequencer)
    elif decision is Decision.SAVE_UNPUBLISHED:
        clock += 1
        absent = notification.model_copy(update={"version_id": None, "metadata": {}, "revision": clock})
        states[key] = replace(known_after(None, absent), announced=False)
        outcome.states[key] = (absent, states[key])
    elif decision is Decision.VERIFY_LATER:
        outcome.to_verify.append(notification)
    elif decision is Decision.REJECT:
        outcome.rejected.append(notification)
    elif decision is Decision.PUBLISH and _hint_of(notification) == "nothing removed":
        outcome.unnotified.append(notification)
    return clock


def _noncurrent_version(
    notification: ObjectChanged, current_states: Mapping[VersionKey, CurrentState | None], current: CurrentState | None
) -> CurrentState | None:
    """Return the noncurrent version that a `stored` notification names; None if it is current or missing."""
    if notification.change != "stored" or notification.version_id is None:
        return None
    named = current_states.get((*object_key_of(notification), notification.version_id))
    if named is None or not named.is_described or (current is not None and current.version_id == named.version_id):
        return None
    return named


def _decide_noncurrent(
    previous: KnownObject | None, notification: ObjectChanged, current: CurrentState | None
) -> Decision:
    """Decide on a noncurrent version: publish it once, unless a newer one or the current one is known."""
    if previous is None:
        return Decision.PUBLISH
    if _is_unannounced(previous, notification, current):
        return Decision.PUBLISH_REMOVAL
    is_current_known = current is not None and _is_known(previous, current)
    return Decision.PUBLISH if _is_newer(notification, previous) and not is_current_known else Decision.STALE


def rebuild_fact(known: Mapping[ObjectKey, KnownObject], found: ObjectChanged) -> ObjectChanged | None:
    """Return the known fact, rebuilt from the bucket; None if they differ, since a new fact will follow."""
    previous = known.get(object_key_of(found))
    if previous is None or (previous.state, previous.etag) != (found.change, found.etag):
        return None
    saved = {"revision": previous.revision, "sequencer": previous.sequencer, "correlation_id": previous.correlation_id}
    return found.model_copy(update=saved)


def _to_fact(
    notification: ObjectChanged, previous: KnownObject | None, revision: int, current: CurrentState | None
) -> ObjectChanged:
    """Return the fact of a notification with `revision`; a removal takes the correlation id of the removed object.

    Take the fields of a stored object from the bucket, if it described the object.
    """
    update: dict[str, object] = {"revision": revision}
    if notification.change == "removed":
        update["metadata"] = {}
        if previous is not None and previous.correlation_id:
            update["correlation_id"] = previous.correlation_id
    elif current is not None and current.is_described:
        update |= _described_fields(current)
    return notification.model_copy(update=update)


def _described_fields(current: CurrentState) -> dict[str, object]:
    return {
        "version_id": current.version_id,
        "etag": current.etag,
        "size": current.size,
        "content_type": current.content_type,
        "metadata": dict(current.metadata),
        "occurred_at": current.last_modified,
    }


def _add_fact(outcome: Outcome, states: dict[ObjectKey, KnownObject], fact: ObjectChanged) -> None:
    """Add a fact; the removal of a noncurrent version does not change the state of its key."""
    outcome.facts.append(fact)
    if fact.change == "stored" or fact.version_id is None:
        key = object_key_of(fact)
        states[key] = known_after(states.get(key), fact)
        outcome.states[key] = (fact, states[key])
