"""Sort what an S3 server or the way to it did wrong into gone, superseded, outage and rejected.

Both clients boil an error down to a `Failure`; what it means is decided here, once.
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
    """Refuse to begin without an S3 user: the libraries would look for one on the host, or fail obscurely."""
    if not (settings.s3_access_key and settings.s3_secret_key.get_secret_value()):
        raise Rejected(
            "SETTINGS",
            "no S3 user: set PENSTOCK_S3_ACCESS_KEY and PENSTOCK_S3_SECRET_KEY, or begin where .env has both",
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request: what was tried, the HTTP status (None: no answer came), and S3's code if told."""

    action: str
    ref: ObjectRef
    status: int | None
    code: str = ""
    detail: str = ""

    @property
    def is_about_credentials(self) -> bool:
        """Whether the store refused the user or the signature."""
        return self.code in CREDENTIAL_CODES

    @property
    def _is_superseded(self) -> bool:
        """Whether another version is there or, told to a conditional write, none: MinIO has no 412 for that."""
        return self.status == 412 or (self.action == "write" and self.code == "NoSuchKey")  # noqa: PLR2004 - HTTP's own

    def to_error(self, settings: Settings, *, credentials_work: bool = False) -> PenstockError:
        """Classify the failure, in one line with subject, reason and fix and without secrets.

        A refused signature is an outage (a user not created yet, a changed secret) unless `credentials_work`: then this
        request is at fault.
        """
        if self.is_about_credentials and credentials_work:
            return Rejected(
                "S3_REFUSED", f"the object store refuses the names in a request to {self.action} {self.ref}"
            )
        is_transient = self.status in _TRANSIENT_STATUS or self.code in _TRANSIENT_CODES
        if self.status is None or is_transient or self.is_about_credentials:
            why = self.code or self.detail or f"HTTP {self.status}"
            return Outage(f"object store {settings.s3_endpoint} cannot {self.action} {self.ref}: {why}")
        if self.code == "NoSuchBucket":
            bucket = self.ref.bucket
            return Rejected("NO_SUCH_BUCKET", f"there is no bucket {bucket}: `penstock doctor --fix` makes ours")
        if self._is_superseded:
            return ObjectSuperseded(f"{self.ref} was overwritten since its event")
        # a delete marker asked for by its version answers 405, an id that can name no version 400
        if self.status in {404, 405} or (self.code == "InvalidArgument" and self.ref.version_id):
            return ObjectGone(f"{self.ref} is gone")
        return self._refusal(settings)

    def _refusal(self, settings: Settings) -> Rejected:
        told = self.code or f"HTTP {self.status}"
        if self.status in {401, 403}:
            user = settings.s3_access_key
            return Rejected(
                "ACCESS_DENIED",
                f"S3 user {user} may not {self.action} {self.ref} ({told}): check its secret and its policy, "
                "or run `penstock doctor --fix`",
            )
        if self.code in _KEY_CODES:
            return Rejected("KEY_REFUSED", f"the object store does not take the key of {self.ref} ({told}): rename it")
        if self.status == 416:  # noqa: PLR2004 - Range Not Satisfiable
            return Rejected("RANGE_PAST_END", f"{self.ref} is shorter than the range asked for")
        return Rejected("S3_REFUSED", f"the object store refuses to {self.action} {self.ref}: {told}")
