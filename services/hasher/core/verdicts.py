"""What is wanted of a stored version, and what its digests say about the upload."""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from services.hasher.core.algorithms import ALGORITHMS
from shared.digests import DIGESTS_METADATA, normalize_name, normalize_names, split_names
from shared.events import ObjectChanged, ObjectHashed

Status = Literal["pending", "running", "succeeded", "failed", "superseded", "gone"]
_HINTS = ("superseded", "gone")
"""Statuses of changes that led to no object: they say nothing about the one that is there."""
Place = tuple[str, str, str]
"""Bucket, key and version id, empty in a bucket without versions."""


def place_of(change: ObjectChanged) -> Place:
    """Where the digests of this version are kept."""
    return change.bucket, change.key, change.version_id or ""


def newest(changes: Iterable[ObjectChanged]) -> dict[Place, ObjectChanged]:
    """Return the newest stored version of each place; the ones before it cannot be read any more."""
    latest: dict[Place, ObjectChanged] = {}
    for change in changes:
        mine = latest.get(place_of(change))
        if change.change == "stored" and (mine is None or change.revision >= mine.revision):
            latest[place_of(change)] = change
    return latest


@dataclass(frozen=True, slots=True)
class Task:
    """One stored version to digest, as the bucket describes it.

    `declared` are digests its uploader gave, hex by algorithm.
    """

    change: ObjectChanged
    algorithms: tuple[str, ...]
    declared: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    """What the store itself keeps of the upload: verified where the object is read, no reason to read it again."""
    is_current: bool = True
    """False for a version that another one has replaced."""

    @property
    def size(self) -> int:
        """Bytes, as the bucket says."""
        return self.change.size or 0


def task_of(change: ObjectChanged, defaults: Sequence[str]) -> Task:
    """Read what the uploader wants; raises Rejected for a digest that nobody knows."""
    asked = change.metadata.get(DIGESTS_METADATA, "")
    algorithms = normalize_names(split_names(asked)) or normalize_names(defaults)
    return Task(change, algorithms, declared_in(change.metadata))


def declared_in(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the digests that metadata declares (`md5`, `sha256` ...), hex or base64; what is neither is no digest."""
    found = {
        normalize_name(name): _as_hex(normalize_name(name), value)
        for name, value in metadata.items()
        if normalize_name(name) in ALGORITHMS
    }
    return {name: value for name, value in found.items() if value is not None}


def _as_hex(algorithm: str, text: str) -> str | None:
    empty = ALGORITHMS[algorithm]().hexdigest()
    plain = text.strip().strip('"')
    if len(plain) == len(empty) and all(digit in "0123456789abcdefABCDEF" for digit in plain):
        return plain.lower()
    try:
        decoded = base64.b64decode(plain, validate=True).hex()
    except (binascii.Error, ValueError):
        return None
    return decoded if len(decoded) == len(empty) else None


@dataclass(frozen=True, slots=True)
class Row:
    """The state of one stored version's digests, as `hasher.digests` keeps it."""

    change: ObjectChanged
    status: Status
    digests: Mapping[str, str] = field(default_factory=dict)
    verification: Literal["verified", "mismatch"] | None = None
    mismatched: tuple[str, ...] = ()
    failure: Exception | None = None
    """Why it failed; its fact becomes a dead letter."""
    kept: bool = False
    """It stays although its object goes, because the hasher itself removed the object."""
    is_current: bool = True
    """False for a version that another one has replaced."""


def finished(task: Task, digests: Mapping[str, str], declared: Mapping[str, str]) -> Row:
    """Return the row of a version that was read whole; the declared digests are checked, the wanted ones kept."""
    checkable = {name: value for name, value in declared.items() if name in digests}
    mismatched = tuple(sorted(name for name, value in checkable.items() if digests[name] != value))
    verification: Literal["verified", "mismatch"] | None = None
    if checkable:
        verification = "mismatch" if mismatched else "verified"
    kept = {name: value for name, value in digests.items() if name in task.algorithms}
    return Row(task.change, "succeeded", kept, verification, mismatched, is_current=task.is_current)


def fact_of(row: Row) -> ObjectHashed:
    """Return the fact that a succeeded row stands for."""
    change = row.change
    return ObjectHashed(
        bucket=change.bucket,
        key=change.key,
        version_id=change.version_id,
        etag=change.etag,
        size=change.size,
        digests=dict(row.digests),
        verification=row.verification,
        mismatched=row.mismatched,
        revision=change.revision,
        correlation_id=change.correlation_id,
    )


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the ledger holds for a place."""

    etag: str | None
    size: int | None
    status: Status
    digests: Mapping[str, str]
    verification: Literal["verified", "mismatch"] | None
    mismatched: tuple[str, ...]
    revision: int
    is_current: bool = True


def repeated(change: ObjectChanged, mine: Remembered | None) -> Row | None:
    """Return the row of a change that was concluded before, so that its fact is published again."""
    if mine is None or mine.status != "succeeded" or not mine.is_current:
        return None
    if (mine.revision, mine.etag, mine.size) != (change.revision, change.etag, change.size):
        return None
    return Row(change, "succeeded", mine.digests, mine.verification, mine.mismatched)


def may_be_digested(change: ObjectChanged, mine: Remembered | None) -> bool:
    """Whether the bytes were probably digested before: then a look at the object comes before reading it."""
    return mine is not None and mine.status == "succeeded" and (mine.etag, mine.size) == (change.etag, change.size)


def reusable(task: Task, mine: Remembered | None) -> Row | None:
    """Return the row of a version whose bytes were digested before: same etag, same size, every digest there.

    What another upload of the same bytes declared says nothing about this one.
    """
    if mine is None or mine.status != "succeeded" or mine.etag is None:
        return None
    needed = {*task.algorithms, *task.declared}
    if (mine.etag, mine.size) != (task.change.etag, task.change.size) or not needed <= set(mine.digests):
        return None
    if task.declared or mine.revision != task.change.revision:
        row = finished(task, mine.digests, task.declared)
        # the store compared this upload's own checksum with the bytes; that these are the bytes was verified before
        is_verified = row.verification is None and bool(task.checksums) and mine.verification == "verified"
        return replace(row, verification="verified") if is_verified else row
    kept = {name: mine.digests[name] for name in task.algorithms}
    return Row(task.change, "succeeded", kept, mine.verification, mine.mismatched, is_current=task.is_current)


def is_outdated(change: ObjectChanged, mine: Remembered | None) -> bool:
    """Whether something newer is known of the place than `change` says; what led nowhere was nothing."""
    return mine is not None and mine.revision > change.revision and mine.status not in _HINTS


def ordered(change: ObjectChanged, mine: Remembered | None, clock: int) -> ObjectChanged:
    """Return `change` with a revision of its place that is not ahead of the present.

    `clock` is the database's, in microseconds, from before anything is asked of the bucket. A real revision is older,
    unless that clock was set back: then what is known is ahead too. A forged one would outdate every later change.
    """
    known = mine.revision if mine else 0
    revision = min(change.revision, max(clock, known + 1))
    if mine is not None and mine.status in _HINTS:
        revision = max(revision, known)
    return change if revision == change.revision else change.model_copy(update={"revision": revision})
