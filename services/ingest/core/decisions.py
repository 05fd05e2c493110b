"""What to do with a notice: decisions as values.

A notification is a hint, the bucket is the truth. Both lanes bring every event, late, twice and sometimes out of
order; `judge` compares notices with what is known and with what the bucket answered, and names the one thing to do.
Where the answer describes the object, the fact is made of the answer: a notice then only says where to look.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from services.ingest.core.notices import Notice, State
from shared.events import ObjectChanged

SEQUENCER_WIDTH = 64
SAME_TIME = timedelta(seconds=5)
"""How far the time of an event may lie from that of its object."""
_NEVER = datetime.min.replace(tzinfo=UTC)


def order(sequencer: str) -> str:
    """Return a sequencer as text that sorts by age: S3 says to pad the shorter on the right with zeros."""
    return sequencer.upper().ljust(SEQUENCER_WIDTH, "0")


@dataclass(frozen=True, slots=True)
class Known:
    """The latest state of a key as Penstock knows it; without a sequencer it was found by a sweep."""

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
    """False for a removal of what was never known: remembered, so that no late copy counts as news, and no fact."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the bucket holds under a key, asked just now; without a size it was not asked to describe the object."""

    etag: str
    last_modified: datetime
    version_id: str | None = None
    size: int | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_described(self) -> bool:
        """Whether a fact can be made of this alone."""
        return self.size is not None


class Verdict(enum.StrEnum):
    """What to do with a notice."""

    NEWS = "news"
    """Publish it and remember it."""
    RETURNED = "returned"
    """The bucket holds another version than the known one, which no notice of its own will tell: publish that."""
    ADOPT = "adopt"
    """A sweep told it already, or nothing changes: remember the sequencer only."""
    ABSENT = "absent"
    """A removal of what was never known: no fact; remember the sequencer only."""
    DUPLICATE = "duplicate"
    """The other lane, or an earlier delivery, told it already."""
    STALE = "stale"
    """Something newer is known or stored, and the bucket agrees with that."""
    DOUBTFUL = "doubtful"
    """Stored, says the notice, but nothing is there, or something else: removed or overwritten since, or forged.

    Another notice will tell, or nothing.
    """
    GONE = "gone"
    """Stored, says the notice, before the removal that was kept back because nothing was known: publish that."""
    FALSE = "false"
    """Removed, says the notice, but it is there and older than the removal."""


def is_told(known: Known | None, notice: ObjectChanged) -> Verdict | None:
    """Judge by memory alone: the verdict on a notice that was told already, None where the bucket must be asked."""
    if known is None:
        return None
    if known.sequencer is not None and notice.sequencer is not None:
        return Verdict.DUPLICATE if _is_repeat(known, notice) else None
    if notice.seen_by == "sweep" and notice.change == "stored":
        return Verdict.DUPLICATE if is_same(known, _truth_of(notice)) else None
    if _hint_of(notice) is None and not _differs(notice, known):
        return Verdict.ADOPT if known.sequencer is None and notice.sequencer is not None else Verdict.DUPLICATE
    return None


def _is_repeat(known: Known, notice: ObjectChanged) -> bool:
    """Whether a notice with a sequencer is about what is known; a version is stored only once."""
    if notice.change == "stored" and notice.version_id is not None and not _differs(notice, known):
        return True
    is_same_event = order(known.sequencer or "") == order(notice.sequencer or "")
    is_other_version = notice.change == "removed" and notice.version_id not in {None, known.version_id}
    return is_same_event and (known.state == notice.change or is_other_version)


def decide(known: Known | None, notice: ObjectChanged, truth: Truth | None) -> Verdict:
    """Judge a notice that memory alone could not settle by what is current in the bucket."""
    if notice.change == "removed":
        return _decide_gone(known, notice) if truth is None else _decide_there(known, notice, truth)
    if truth is not None and truth.is_described:
        return _decide_described(known, notice, truth)
    if _is_unannounced(known, notice, truth):
        return Verdict.GONE
    if known is not None and not _is_newer(notice, known):
        return Verdict.NEWS if _is_true(notice, truth) and _differs(notice, known) else Verdict.STALE
    return Verdict.DOUBTFUL if truth is None else Verdict.NEWS


def _decide_gone(known: Known | None, notice: ObjectChanged) -> Verdict:
    """Judge a removal under a key that holds nothing."""
    if known is None:
        return Verdict.ABSENT
    if known.state == "stored":
        return Verdict.NEWS
    return Verdict.ADOPT if _is_newer(notice, known) else Verdict.STALE


def _decide_there(known: Known | None, notice: ObjectChanged, truth: Truth) -> Verdict:
    """Judge a removal under a key that holds something: that was stored since, or an older version is current again.

    Only a removal of the one object of its key can be wrong: that object is there and was before.
    """
    since = _is_since(notice, truth)
    if _is_plain(notice) and truth.version_id is None:
        return Verdict.STALE if since or (known and not _is_newer(notice, known)) else Verdict.FALSE
    if _is_known(known, truth):
        return Verdict.ADOPT if known is not None and _is_newer(notice, known) else Verdict.STALE
    is_announced = truth.version_id is None and since and truth.last_modified > _second(notice)
    return Verdict.STALE if is_announced or notice.seen_by == "sweep" else Verdict.RETURNED


def _is_unannounced(known: Known | None, notice: ObjectChanged, current: Truth | None) -> bool:
    """Whether a notice proves that there was something to remove, although no removal was published."""
    return known is not None and not known.announced and current is None and not _is_newer(notice, known)


def _is_plain(notice: ObjectChanged) -> bool:
    return notice.version_id is None and _hint_of(notice) is None


def _hint_of(notice: ObjectChanged) -> str | None:
    return notice.hint if isinstance(notice, Notice) else None


def _second(notice: ObjectChanged) -> datetime:
    return (notice.occurred_at or _NEVER).replace(microsecond=0)


def _is_since(notice: ObjectChanged, truth: Truth) -> bool:
    """Whether the object may have been stored after the removal."""
    return notice.occurred_at is None or truth.last_modified >= _second(notice)


def _is_known(known: Known | None, truth: Truth) -> bool:
    """Whether what is current is known; an id names a version for good, what it holds included."""
    if known is None or truth.version_id is None:
        return known is not None and is_same(known, truth)
    return (known.state, known.etag, known.version_id) == ("stored", truth.etag, truth.version_id)


def _decide_described(known: Known | None, notice: ObjectChanged, truth: Truth) -> Verdict:
    """Judge a notice of an object that is there; the notice itself only says that it was stored, and when."""
    is_about_it = notice.etag in {None, truth.etag} and notice.version_id in {None, truth.version_id}
    if known is not None and is_same(known, truth):
        if not _is_newer(notice, known):
            return Verdict.STALE
        return Verdict.NEWS if is_about_it else Verdict.DUPLICATE
    return Verdict.NEWS if is_about_it else Verdict.DOUBTFUL


def is_same(known: Known, truth: Truth) -> bool:
    """Whether the known version is the one in the bucket, by all that is known of it."""
    compared = (
        (known.size, truth.size),
        (known.content_type, truth.content_type),
        (known.metadata, truth.metadata),
    )
    return (
        (known.state, known.etag, known.version_id) == ("stored", truth.etag, truth.version_id)
        and all(mine is None or mine == there for mine, there in compared)
        and is_same_time(known.last_modified, truth.last_modified)
    )


def is_same_time(known: datetime | None, there: datetime) -> bool:
    """Whether an object was stored at the known time, which may be that of its event."""
    return known is None or abs(known - there) <= SAME_TIME


def _truth_of(found: ObjectChanged) -> Truth:
    """Return what a sweep found as an answer of the bucket."""
    at = found.occurred_at or _NEVER
    return Truth(found.etag or "", at, found.version_id, found.size, found.content_type, found.metadata)


def _is_newer(notice: ObjectChanged, known: Known) -> bool:
    if notice.sequencer is None or known.sequencer is None:
        return False
    return order(notice.sequencer) > order(known.sequencer)


def _is_true(notice: ObjectChanged, truth: Truth | None) -> bool:
    if notice.change == "removed" or truth is None:
        return (notice.change == "removed") == (truth is None)
    return truth.etag == notice.etag and notice.version_id in (None, truth.version_id)


def _differs(notice: ObjectChanged, known: Known) -> bool:
    return (known.state, known.etag, known.version_id) != (notice.change, notice.etag, notice.version_id)


def after(known: Known | None, fact: ObjectChanged) -> Known:
    """Return what is known once `fact` is told; the highest sequencer stays, so that no older copy counts as newer."""
    highest = max((one for one in (known and known.sequencer, fact.sequencer) if one), key=order, default=None)
    return Known(
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


def by_age(notice: ObjectChanged) -> tuple[str, datetime]:
    """Sort key for notices of one key; those without a sequencer come by their time."""
    return (order(notice.sequencer or ""), notice.occurred_at or _NEVER)


Place = tuple[str, str]
"""Bucket and key."""
Version = tuple[str, str, str | None]
"""Bucket, key and version id; without one, whatever is current."""


def place_of(notice: ObjectChanged) -> Place:
    """Where the notice happened."""
    return notice.bucket, notice.key


def current_of(notice: ObjectChanged) -> Version:
    """What to ask the bucket about: what is current is the state of a key, whatever the notice names."""
    return notice.bucket, notice.key, None


def removed_version_of(notice: ObjectChanged) -> Version | None:
    """Name the version that a removal names, to be asked about as well."""
    if notice.change == "stored" or notice.version_id is None:
        return None
    return notice.bucket, notice.key, notice.version_id


@dataclass(slots=True)
class Outcome:
    """What a batch of notices comes to: `facts` in the order to tell them, and the state of each key after them."""

    facts: list[ObjectChanged] = field(default_factory=list)
    states: dict[Place, tuple[ObjectChanged, Known]] = field(default_factory=dict)
    adopted: list[ObjectChanged] = field(default_factory=list)
    doubtful: list[ObjectChanged] = field(default_factory=list)
    silent: list[ObjectChanged] = field(default_factory=list)
    """Notices that found an object gone whose removal nobody was told of; its neighbors may be gone too."""
    false: list[ObjectChanged] = field(default_factory=list)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)


def judge(
    notices: Iterable[ObjectChanged],
    known: Mapping[Place, Known],
    truths: Mapping[Version, Truth | None],
    *,
    clock: int,
    last_word: bool = False,
) -> Outcome:
    """Judge a batch, oldest first; `clock` (microseconds of the database clock) starts the new revisions.

    With `last_word` no other notice is waited for: what the bucket holds in place of the announced object is news.
    """
    outcome = Outcome()
    now = dict(known)
    ordered = sorted(notices, key=by_age)
    removed = {place_of(one): by_age(one) for one in ordered if one.change == "removed"}
    for notice in ordered:
        place, mine = place_of(notice), now.get(place_of(notice))
        truth = truths.get(current_of(notice))
        if (older := _older_version(notice, truths, truth)) is not None:
            truth, verdict = older, _verdict_on_older(mine, notice, truth)
        else:
            verdict = is_told(mine, notice) or decide(mine, notice, truth)
        if verdict is Verdict.DOUBTFUL and truth is None and removed.get(place, by_age(notice)) > by_age(notice):
            verdict = Verdict.NEWS
        if verdict is Verdict.DOUBTFUL and truth is not None and last_word:
            verdict = Verdict.NEWS
        outcome.verdicts[notice.seen_by, verdict.value] += 1
        is_version_gone = truths.get(removed_version_of(notice) or current_of(notice), truth) is None
        for fact in _facts(verdict, notice, mine, truth, is_version_gone=is_version_gone):
            clock = max(clock, mine.revision if mine else 0) + 1
            _tell(outcome, now, _as_fact(fact, mine, clock, truth))
        clock = _note(outcome, now, verdict, notice, clock)
    return outcome


def _facts(
    verdict: Verdict, notice: ObjectChanged, mine: Known | None, truth: Truth | None, *, is_version_gone: bool
) -> list[ObjectChanged]:
    """Return what to publish; of a removal, that a version is gone and what is current instead."""
    if verdict is Verdict.GONE and mine is not None:
        gone = {"change": "removed", "version_id": None, "etag": None, "size": None, "content_type": None}
        return [notice.model_copy(update={**gone, "sequencer": mine.sequencer, "occurred_at": mine.last_modified})]
    if notice.change == "stored":
        return [notice] if verdict is Verdict.NEWS else []
    facts = []
    if _is_loss_of_version(notice, mine) and is_version_gone and verdict is not Verdict.DUPLICATE:
        is_all = verdict is Verdict.NEWS and mine is not None and mine.version_id == notice.version_id
        facts += [] if is_all else [notice]
    if verdict is Verdict.NEWS:
        facts.append(notice.model_copy(update={"version_id": None}))
    elif verdict is Verdict.RETURNED and truth is not None:
        facts.append(notice.model_copy(update={"change": "stored", **_described(truth)}))
    return facts


def _is_loss_of_version(notice: ObjectChanged, mine: Known | None) -> bool:
    return notice.version_id is not None and mine is not None and mine.announced


def _note(outcome: Outcome, now: dict[Place, Known], verdict: Verdict, notice: ObjectChanged, clock: int) -> int:
    """Add what a verdict leaves behind beside facts; return the clock."""
    place, mine = place_of(notice), now.get(place_of(notice))
    if verdict is Verdict.ADOPT and mine is not None:
        outcome.adopted.append(notice)
        now[place] = replace(mine, sequencer=notice.sequencer)
    elif verdict is Verdict.ABSENT:
        clock += 1
        absent = notice.model_copy(update={"version_id": None, "metadata": {}, "revision": clock})
        now[place] = replace(after(None, absent), announced=False)
        outcome.states[place] = (absent, now[place])
    elif verdict is Verdict.DOUBTFUL:
        outcome.doubtful.append(notice)
    elif verdict is Verdict.FALSE:
        outcome.false.append(notice)
    elif verdict is Verdict.NEWS and _hint_of(notice) == "nothing removed":
        outcome.silent.append(notice)
    return clock


def _older_version(
    notice: ObjectChanged, truths: Mapping[Version, Truth | None], current: Truth | None
) -> Truth | None:
    """Return the stored version that a notice names where it is not the current one; None: it is, or is gone."""
    if notice.change != "stored" or notice.version_id is None:
        return None
    own = truths.get((*place_of(notice), notice.version_id))
    if own is None or not own.is_described or (current is not None and current.version_id == own.version_id):
        return None
    return own


def _verdict_on_older(mine: Known | None, notice: ObjectChanged, current: Truth | None) -> Verdict:
    """An older version is published once, as long as nothing newer is known and the current one is not."""
    if mine is None:
        return Verdict.NEWS
    if _is_unannounced(mine, notice, current):
        return Verdict.GONE
    is_current_known = current is not None and _is_known(mine, current)
    return Verdict.NEWS if _is_newer(notice, mine) and not is_current_known else Verdict.STALE


def retold(known: Mapping[Place, Known], found: ObjectChanged) -> ObjectChanged | None:
    """Return the known fact again from what the bucket holds; None when they differ, for then there is news to come."""
    mine = known.get(place_of(found))
    if mine is None or (mine.state, mine.etag) != (found.change, found.etag):
        return None
    told = {"revision": mine.revision, "sequencer": mine.sequencer, "correlation_id": mine.correlation_id}
    return found.model_copy(update=told)


def _as_fact(notice: ObjectChanged, mine: Known | None, revision: int, truth: Truth | None) -> ObjectChanged:
    """Give the notice its place in the order of its key; a removal belongs to the object that it removes.

    A stored object is described by the bucket, where that was asked to.
    """
    update: dict[str, object] = {"revision": revision}
    if notice.change == "removed":
        update["metadata"] = {}
        if mine is not None and mine.correlation_id:
            update["correlation_id"] = mine.correlation_id
    elif truth is not None and truth.is_described:
        update |= _described(truth)
    return notice.model_copy(update=update)


def _described(truth: Truth) -> dict[str, object]:
    return {
        "version_id": truth.version_id,
        "etag": truth.etag,
        "size": truth.size,
        "content_type": truth.content_type,
        "metadata": dict(truth.metadata),
        "occurred_at": truth.last_modified,
    }


def _tell(outcome: Outcome, now: dict[Place, Known], fact: ObjectChanged) -> None:
    """Add a fact; that a version is gone which is not the current one leaves its key as it is."""
    outcome.facts.append(fact)
    if fact.change == "stored" or fact.version_id is None:
        place = place_of(fact)
        now[place] = after(now.get(place), fact)
        outcome.states[place] = (fact, now[place])
