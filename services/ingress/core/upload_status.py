"""The status of an upload by id: object, event, work and digests, and their JSON forms."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from services.ingress.core.access import Principal
from shared.digests import normalize_names
from shared.errors import Rejected

Status = Literal["PENDING", "STARTED", "SUCCESS", "FAILURE", "INVALID_ID"]

Phase = Literal["waiting", "reading"]

ALGORITHM: Final = "md5"
"""The default digest of `hash`."""

_STATUS: Final[Mapping[str, Status]] = {
    "pending": "PENDING",
    "running": "STARTED",
    "succeeded": "SUCCESS",
    "failed": "FAILURE",
    "superseded": "FAILURE",
    "gone": "FAILURE",
}
_PHASES: Final[Mapping[Status, Phase]] = {"PENDING": "waiting", "STARTED": "reading"}
_REASONS: Final[Mapping[str, str]] = {
    "failed": "the digests could not be made; the log of the hasher says why",
    "superseded": "the object was overwritten while it was read: upload it again",
    "gone": "the object was removed: upload it again",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """What is recorded of an upload; None for what is not recorded yet.

    `state` is the object's as ingest recorded it (stored, removed), `hashed_etag` is the version that `digests`,
    `status`, `attempts` and `error` are about, and `work_state` is that of leased work on a large object.
    """

    id: str
    bucket: str
    key: str
    owner: str | None = None
    etag: str | None = None
    version_id: str | None = None
    size: int | None = None
    state: str | None = None
    correlation_id: str | None = None
    seen_by: str | None = None
    revision: int | None = None
    noted_at: datetime | None = None
    status: str | None = None
    hashed_etag: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    verification: str | None = None
    attempts: int | None = None
    error: str | None = None
    hashed_at: datetime | None = None
    work_state: str | None = None
    work_attempts: int | None = None
    worker: str | None = None
    progress: Mapping[str, Any] | None = None

    def is_for(self, principal: Principal) -> bool:
        """Return whether `principal` may see it: its owner or an administrator, within their prefixes."""
        return principal.sees(self.bucket, self.key) and (self.owner == principal.id or principal.may("admin"))

    @property
    def client_status(self) -> Status:
        """The status in the words of its clients; digests of another version than the present one do not count."""
        is_replaced = self.state == "stored" and self.etag != self.hashed_etag
        if self.status is not None and not is_replaced:
            return _STATUS[self.status]
        return "FAILURE" if self.state == "removed" else "PENDING"

    @property
    def reason(self) -> str | None:
        """Why it failed."""
        if self.client_status != "FAILURE":
            return None
        return self.error or _REASONS[self.status or "gone"]


def render_invalid_id() -> dict[str, Any]:
    """Return the JSON form of an unknown or foreign id."""
    return {"status": "INVALID_ID", "hash": None}


def render_digest(upload: Upload, algorithm: str = ALGORITHM) -> dict[str, Any]:
    """Return the JSON form of an upload and one of its digests.

    Raises Rejected: UNKNOWN_DIGEST, and NOT_COMPUTED once the others are there.
    """
    (name,) = normalize_names([algorithm or ALGORITHM])
    status = upload.client_status
    digests = dict(upload.digests) if status == "SUCCESS" else {}
    if status == "SUCCESS" and name not in digests:
        there = ", ".join(sorted(digests)) or "none"
        raise Rejected("NOT_COMPUTED", f"there is no {name} of this upload, but {there}: ask for it with the upload")
    phase = _PHASES.get(status)
    return {
        # clients of the digest API poll while this is PENDING and know no other unfinished status
        "status": "PENDING" if phase else status,
        "hash": digests.get(name),
        "id": upload.id,
        "bucket": upload.bucket,
        "key": upload.key,
        "algorithm": name,
        "digests": digests,
        "size": upload.size,
        "error": upload.reason,
        "progress": upload.progress if phase == "reading" else None,
        **({"phase": phase} if phase else {}),
    }


def render_links(upload: Upload) -> dict[str, Any]:
    """Return the JSON form of an upload's object, event, work and result; null for what is not recorded yet."""
    return {
        "id": upload.id,
        "status": upload.client_status,
        "object": {
            "bucket": upload.bucket,
            "key": upload.key,
            "etag": upload.etag,
            "version_id": upload.version_id,
            "size": upload.size,
            "state": upload.state or "stored",
        },
        "event": _unless_none(
            upload.revision,
            correlation_id=upload.correlation_id,
            seen_by=upload.seen_by,
            revision=upload.revision,
            at=upload.noted_at,
        ),
        "work": _unless_none(
            upload.work_state,
            state=upload.work_state,
            attempts=upload.work_attempts,
            worker=upload.worker,
            progress=upload.progress,
        ),
        "result": _unless_none(
            upload.status,
            status=upload.status,
            etag=upload.hashed_etag,
            digests=dict(upload.digests),
            verification=upload.verification,
            attempts=upload.attempts,
            error=upload.reason,
            at=upload.hashed_at,
        ),
    }


def _unless_none(sign: object, **members: Any) -> dict[str, Any] | None:
    return None if sign is None else members
