"""What is known of one object's digests, by three witnesses: the hasher, ingest and the bucket itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

DONE: Final = 0
FAILED: Final = 1
PENDING: Final = 3
UNKNOWN: Final = 4

CODES: Final = {"succeeded": DONE, "failed": FAILED, "gone": UNKNOWN, "unknown": UNKNOWN}
"""Exit code by status; every other status means that somebody is still at it."""

SHOWN: Final = (
    "bucket", "key", "version_id", "etag", "size", "digests", "status",
    "verification", "attempts", "error", "created_at", "updated_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of an object's digests and what to tell about it."""

    status: str
    row: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""

    @property
    def code(self) -> int:
        """The exit code."""
        return CODES.get(self.status, PENDING)


def judge(row: Mapping[str, Any] | None, *, known: str | None, stored: str | None, is_input: bool = True) -> Verdict:
    """Weigh the hasher's `row` against the ETags that ingest (`known`) and the bucket (`stored`) have now.

    The bucket is the truth: a row about another version is history, and the object is pending.
    """
    current = stored or known
    if row is not None and (current is None or current == row["etag"]):
        return _of_row(row, exists=current is not None)
    if current is None:
        return Verdict("unknown", remark="there is no such object, and there was none that anybody saw")
    if not is_input:
        return Verdict("unknown", remark="its bucket is no input (PENSTOCK_INPUT_BUCKETS), so nobody digests it")
    if row is not None:
        return Verdict("pending", row, "it was overwritten; the digests of the new version are not made yet")
    return Verdict("pending", remark="" if known else "its notification has not arrived yet; `penstock sweep` finds it")


def judge_told(told: Mapping[str, Any] | None, *, is_input: bool = True) -> Verdict:
    """Weigh what the ingress tells of an object: what ingest saw last, and the rows of the hasher."""
    seen: Mapping[str, Any] = (told and told["object"]) or {}
    rows: Sequence[Mapping[str, Any]] = told["digests"] if told else ()
    etag = seen.get("etag") if seen.get("state") == "stored" else None
    row = next((one for one in reversed(rows) if one["etag"] == etag), rows[-1] if rows else None)
    return judge(row, known=etag, stored=None, is_input=is_input)


def _of_row(row: Mapping[str, Any], *, exists: bool) -> Verdict:
    status = str(row["status"])
    if status in {"superseded", "gone"} and exists:
        return Verdict("pending", row, "a newer version takes its turn")
    if not exists and status == "succeeded":
        return Verdict(status, row, "the object itself has been removed since")
    return Verdict(status, row)
