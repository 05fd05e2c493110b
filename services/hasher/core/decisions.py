"""Which digests a stored version needs, and whether they match what the uploader declared."""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from services.hasher.core.algorithms import ALGORITHMS
from shared.digests import DIGESTS_METADATA, normalize_name, normalize_names, split_names
from shared.events import ObjectChanged, ObjectHashed

Status = Literal["pending", "running", "succeeded", "failed", "superseded", "gone"]
_NOT_FOUND = ("superseded", "gone")
"""Statuses of changes whose object was not found; they say nothing about the object that is stored now."""
VersionKey = tuple[str, str, str]
"""Bucket, key and version id; the version id is empty in a bucket without versioning."""


def version_key_of(change: ObjectChanged) -> VersionKey:
    """Return the primary key of this version in `hasher.digests`."""
    return change.bucket, change.key, change.version_id or ""


def newest_by_version(changes: Iterable[ObjectChanged]) -> dict[VersionKey, ObjectChanged]:
    """Return the newest `stored` change of each version; the bucket no longer holds the older ones."""
    latest: dict[VersionKey, ObjectChanged] = {}
    for change in changes:
        previous = latest.get(version_key_of(change))
        if change.change == "stored" and (previous is None or change.revision >= previous.revision):
            latest[version_key_of(change)] = change
    return latest


@dataclass(frozen=True, slots=True)
class DigestTask:
    """One stored version to digest, as the bucket describes it.

    `declared` holds the digests from the uploader's metadata, hex by algorithm.
    """

    change: ObjectChanged
    algorithms: tuple[str, ...]
    declared: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Checksums that the store holds of the upload; verified whenever the object is read."""
    is_current: bool = True
    """False for a noncurrent version: the bucket holds a newer one."""

    @property
    def size(self) -> int:
        """Return the object's size in bytes."""
        return self.change.size or 0


def build_task(change: ObjectChanged, defaults: Sequence[str]) -> DigestTask:
    """Build the task from the object's metadata. Raises Rejected for an unknown digest."""
    requested = change.metadata.get(DIGESTS_METADATA, "")
    algorithms = normalize_names(split_names(requested)) or normalize_names(defaults)
    return DigestTask(change, algorithms, declared_digests(change.metadata))


def declared_digests(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the digests in metadata (`md5`, `sha256` ...) as hex; ignore values that are neither hex nor base64."""
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
class DigestRow:
    """One row of `hasher.digests`: the state of one stored version's digests."""

    change: ObjectChanged
    status: Status
    digests: Mapping[str, str] = field(default_factory=dict)
    verification: Literal["verified", "mismatch"] | None = None
    mismatched: tuple[str, ...] = ()
    failure: Exception | None = None
    """Why it failed; the record of its change becomes a dead letter."""
    outlives_object: bool = False
    """Whether the digests stay visible after the object's removal, because the hasher itself deletes the object."""
    is_current: bool = True
    """False for a noncurrent version: the bucket holds a newer one."""


def succeeded_row(task: DigestTask, digests: Mapping[str, str], declared: Mapping[str, str]) -> DigestRow:
    """Return the row of a digested version: verify the declared digests, store only the requested ones."""
    checkable = {name: value for name, value in declared.items() if name in digests}
    mismatched = tuple(sorted(name for name, value in checkable.items() if digests[name] != value))
    verification: Literal["verified", "mismatch"] | None = None
    if checkable:
        verification = "mismatch" if mismatched else "verified"
    requested = {name: value for name, value in digests.items() if name in task.algorithms}
    return DigestRow(task.change, "succeeded", requested, verification, mismatched, is_current=task.is_current)


def to_fact(row: DigestRow) -> ObjectHashed:
    """Return the fact to publish for a succeeded row."""
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
class LedgerEntry:
    """What the ledger holds about a version."""

    etag: str | None
    size: int | None
    status: Status
    digests: Mapping[str, str]
    verification: Literal["verified", "mismatch"] | None
    mismatched: tuple[str, ...]
    revision: int
    is_current: bool = True


def already_succeeded(change: ObjectChanged, entry: LedgerEntry | None) -> DigestRow | None:
    """Return the row of a change that succeeded before, so its fact is published again; else None."""
    if entry is None or entry.status != "succeeded" or not entry.is_current:
        return None
    if (entry.revision, entry.etag, entry.size) != (change.revision, change.etag, change.size):
        return None
    return DigestRow(change, "succeeded", entry.digests, entry.verification, entry.mismatched)


def was_probably_digested(change: ObjectChanged, entry: LedgerEntry | None) -> bool:
    """Whether the bytes were probably digested before: then a HEAD may save reading them."""
    return entry is not None and entry.status == "succeeded" and (entry.etag, entry.size) == (change.etag, change.size)


def reuse_digests(task: DigestTask, entry: LedgerEntry | None) -> DigestRow | None:
    """Return a row from the stored digests when etag and size match and no requested digest is missing; else None.

    Verify only what this upload declares: another upload of the same bytes may have declared other digests.
    """
    if entry is None or entry.status != "succeeded" or entry.etag is None:
        return None
    needed = {*task.algorithms, *task.declared}
    if (entry.etag, entry.size) != (task.change.etag, task.change.size) or not needed <= set(entry.digests):
        return None
    if task.declared or entry.revision != task.change.revision:
        row = succeeded_row(task, entry.digests, task.declared)
        # the store checked this upload's checksum against the same bytes that the hasher verified before
        is_verified = row.verification is None and bool(task.checksums) and entry.verification == "verified"
        return replace(row, verification="verified") if is_verified else row
    requested = {name: entry.digests[name] for name in task.algorithms}
    return DigestRow(
        task.change, "succeeded", requested, entry.verification, entry.mismatched, is_current=task.is_current
    )


def is_outdated(change: ObjectChanged, entry: LedgerEntry | None) -> bool:
    """Whether the ledger holds a newer state of the version; changes whose object was not found do not count."""
    return entry is not None and entry.revision > change.revision and entry.status not in _NOT_FOUND


def limit_revision(change: ObjectChanged, entry: LedgerEntry | None, clock: int) -> ObjectChanged:
    """Return `change` with its revision limited to `clock`, or to one above the ledger's revision if that is higher.

    `clock` is the database clock in microseconds, read before any request to the bucket. A real revision is below it
    unless that clock was set back; a forged revision in the future would outdate every later change. An entry whose
    object was not found raises the revision to its own.
    """
    known = entry.revision if entry else 0
    revision = min(change.revision, max(clock, known + 1))
    if entry is not None and entry.status in _NOT_FOUND:
        revision = max(revision, known)
    return change if revision == change.revision else change.model_copy(update={"revision": revision})
