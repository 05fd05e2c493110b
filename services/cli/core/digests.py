"""The state of an object's digests, from three sources: the hasher's row, ingest's record and the bucket."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

DONE: Final = 0
FAILED: Final = 1
PENDING: Final = 3
UNKNOWN: Final = 4

EXIT_CODES: Final = {"succeeded": DONE, "failed": FAILED, "gone": UNKNOWN, "unknown": UNKNOWN}
"""Exit code by status; every other status is PENDING."""

FIELDS: Final = (
    "bucket", "key", "version_id", "etag", "size", "digests", "status",
    "verification", "attempts", "error", "created_at", "updated_at",
)  # fmt: skip
"""Columns of `api.digests` in the JSON output."""


@dataclass(frozen=True, slots=True)
class DigestState:
    """The current status, the hasher's row if any, and a remark for people."""

    status: str
    row: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code of a command about this object."""
        return EXIT_CODES.get(self.status, PENDING)


def state_of(
    row: Mapping[str, Any] | None, *, known_etag: str | None, stored_etag: str | None, is_input: bool = True
) -> DigestState:
    """Compare the hasher's `row` with the ETags that ingest (`known_etag`) and the bucket (`stored_etag`) have now.

    The bucket decides: if `row` is about another version, the digests of the object are pending.
    """
    current = stored_etag or known_etag
    if row is not None and (current is None or current == row["etag"]):
        return _state_of_row(row, exists=current is not None)
    if current is None:
        return DigestState("unknown", remark="there is no such object, and no service has seen one")
    if not is_input:
        remark = "its bucket is not an input bucket (PENSTOCK_INPUT_BUCKETS), so the hasher ignores it"
        return DigestState("unknown", remark=remark)
    if row is not None:
        return DigestState("pending", row, "it was overwritten; the new version has no digests yet")
    remark = "" if known_etag else "its notification has not arrived yet; `penstock sweep` finds the object"
    return DigestState("pending", remark=remark)


def state_from_timeline(timeline: Mapping[str, Any] | None, *, is_input: bool = True) -> DigestState:
    """Return the state by the ingress's timeline of an object: the object as ingest knows it, and the hasher's rows."""
    known: Mapping[str, Any] = (timeline and timeline["object"]) or {}
    rows: Sequence[Mapping[str, Any]] = timeline["digests"] if timeline else ()
    etag = known.get("etag") if known.get("state") == "stored" else None
    row = next((one for one in reversed(rows) if one["etag"] == etag), rows[-1] if rows else None)
    return state_of(row, known_etag=etag, stored_etag=None, is_input=is_input)


def _state_of_row(row: Mapping[str, Any], *, exists: bool) -> DigestState:
    status = str(row["status"])
    if status in {"superseded", "gone"} and exists:
        return DigestState("pending", row, "a newer version is being hashed")
    if not exists and status == "succeeded":
        return DigestState(status, row, "the object was removed since")
    return DigestState(status, row)
