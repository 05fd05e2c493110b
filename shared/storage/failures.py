"""Classify failed S3 requests as gone, superseded, outage or rejected.

Both clients reduce an error to a `Failure`, which maps it to one of our errors.
"""

from dataclasses import dataclass
from typing import Final

from shared.errors import Outage, PenstockError, Rejected
from shared.settings import Settings
from shared.storage.credentials import CREDENTIAL_CODES
from shared.storage.objects import ObjectGone, ObjectRef, ObjectSuperseded

_TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_TRANSIENT_CODES: Final = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "OperationAborted",
        "RequestTimeTooSkewed",
    }
)
_KEY_CODES: Final = frozenset({"XMinioInvalidObjectName", "XMinioInvalidResourceName", "KeyTooLongError"})


def require_credentials(settings: Settings) -> None:
    """Raise Rejected without an S3 user: the libraries would search the host for credentials or fail obscurely."""
    if not (settings.s3_access_key and settings.s3_secret_key.get_secret_value()):
        raise Rejected(
            "SETTINGS",
            "no S3 user: set PENSTOCK_S3_ACCESS_KEY and PENSTOCK_S3_SECRET_KEY, or start in the folder of their .env",
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request: the action, the HTTP status (None without a response), and S3's error code if any."""

    action: str
    ref: ObjectRef
    status: int | None
    code: str = ""
    detail: str = ""

    @property
    def is_about_credentials(self) -> bool:
        """Whether the store rejected the user or the signature."""
        return self.code in CREDENTIAL_CODES

    @property
    def _is_superseded(self) -> bool:
        """Whether the object has another version, or is gone at a conditional write: MinIO answers that with 404."""
        return self.status == 412 or (self.action == "write" and self.code == "NoSuchKey")  # noqa: PLR2004 - HTTP's own

    def to_error(self, settings: Settings, *, credentials_work: bool = False) -> PenstockError:
        """Return the matching error, with subject, reason and fix in one line without secrets.

        A rejected signature is an outage (the user does not exist yet, or its secret changed) unless
        `credentials_work`: then this request is at fault.
        """
        if self.is_about_credentials and credentials_work:
            return Rejected(
                "S3_REFUSED", f"the object store refuses the names in a request to {self.action} {self.ref}: rename it"
            )
        is_transient = self.status in _TRANSIENT_STATUS or self.code in _TRANSIENT_CODES
        if self.status is None or is_transient or self.is_about_credentials:
            why = self.code or self.detail or f"HTTP {self.status}"
            return Outage(f"object store {settings.s3_endpoint} cannot {self.action} {self.ref}: {why}")
        if self.code == "NoSuchBucket":
            bucket = self.ref.bucket
            return Rejected("NO_SUCH_BUCKET", f"there is no bucket {bucket}: create it, or run `penstock doctor --fix`")
        if self._is_superseded:
            return ObjectSuperseded(f"{self.ref} was overwritten since its event")
        # a GET of a delete marker by its version id answers 405, a malformed version id 400
        if self.status in {404, 405} or (self.code == "InvalidArgument" and self.ref.version_id):
            return ObjectGone(f"{self.ref} is gone")
        return self._refusal(settings)

    def _refusal(self, settings: Settings) -> Rejected:
        cause = self.code or f"HTTP {self.status}"
        if self.status in {401, 403}:
            user = settings.s3_access_key
            return Rejected(
                "ACCESS_DENIED",
                f"S3 user {user} may not {self.action} {self.ref} ({cause}): check its secret and its policy, "
                "or run `penstock doctor --fix`",
            )
        if self.code in _KEY_CODES:
            return Rejected("KEY_REFUSED", f"the object store does not take the key of {self.ref} ({cause}): rename it")
        if self.status == 416:  # noqa: PLR2004 - Range Not Satisfiable
            return Rejected("RANGE_PAST_END", f"{self.ref} is shorter than the requested range")
        return Rejected("S3_REFUSED", f"the object store refuses to {self.action} {self.ref}: {cause}")
