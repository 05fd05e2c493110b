"""The result of an upload as a page shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.ingress.core.upload_status import Status, Upload


@dataclass(frozen=True, slots=True)
class UploadResult:
    """The upload `id`; `upload` is None if it does not exist for this principal."""

    id: str
    upload: Upload | None

    @property
    def status(self) -> Status:
        """PENDING, STARTED, SUCCESS, FAILURE or INVALID_ID."""
        return self.upload.client_status if self.upload else "INVALID_ID"

    @property
    def is_done(self) -> bool:
        """Return whether the status is final."""
        return self.status not in {"PENDING", "STARTED"}

    @property
    def name(self) -> str:
        """The file's name as its uploader gave it."""
        return self.upload.key.rpartition("/")[2] if self.upload else ""

    @property
    def percent(self) -> int | None:
        """The percentage of bytes read; None if unknown."""
        progress: Mapping[str, Any] = (self.upload.progress if self.upload else None) or {}
        size, done = progress.get("size"), progress.get("bytes")
        return int(100 * done / size) if size and done is not None else None

    @property
    def fingerprint(self) -> str:
        """Equal for two results that look the same on the page."""
        return f"{self.status}-{self.percent}"


@dataclass(frozen=True, slots=True)
class RecentObject:
    """A recently changed object with its digests so far."""

    bucket: str
    key: str
    at: datetime
    state: str | None = None
    size: int | None = None
    status: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def name(self) -> str:
        """The last step of its key."""
        return self.key.rstrip("/").rpartition("/")[2] or self.key

    @property
    def folder(self) -> str:
        """Where it is."""
        return f"{self.bucket}/{self.key.rpartition('/')[0]}".rstrip("/")

    @property
    def shown_status(self) -> str:
        """In a word: removed, pending, running, succeeded, failed, superseded, gone."""
        return "removed" if self.state == "removed" else self.status or "pending"

    @property
    def digest(self) -> tuple[str, str]:
        """Name and value of the preferred digest; empty if there is none."""
        names = ("sha256", *self.digests)
        return next(((name, self.digests[name]) for name in names if name in self.digests), ("", ""))
