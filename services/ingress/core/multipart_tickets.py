"""Part sizes and signed tickets of multipart uploads.

A ticket is signed and holds the whole state, so no table stores it; a modified one is invalid.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from itsdangerous import BadData, URLSafeSerializer

PART_BYTES: Final = 16 << 20
MAX_PARTS: Final = 10_000
"""As S3 has it: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_STEP: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Ticket:
    """One open upload: target, the store's upload id, size and owner.

    `mark` is a random id stored with the object, so that a repeated completion can be recognized.
    """

    bucket: str
    key: str
    upload_id: str
    size: int
    owner: str
    mark: str
    expires: datetime
    file_id: str | None = None

    @property
    def part_bytes(self) -> int:
        """Bytes of every part but the last."""
        least = -(-self.size // MAX_PARTS)
        return max(PART_BYTES, -(-least // _STEP) * _STEP)

    @property
    def parts(self) -> int:
        """Return the number of parts."""
        return max(1, -(-self.size // self.part_bytes))

    def size_of(self, number: int) -> int:
        """Return the bytes of the part `number`, counted from 1."""
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)

    def missing(self, sizes: Iterable[tuple[int, int]]) -> list[int]:
        """Return the numbers of the parts that are not among `sizes` (number, bytes) as they should be."""
        sent = dict(sizes)
        return [number for number in range(1, self.parts + 1) if sent.get(number) != self.size_of(number)]


class TicketSigner:
    """Sign tickets and verify them."""

    def __init__(self, key: bytes) -> None:
        derived = hmac.digest(key, b"parts", hashlib.sha256)
        self._serializer = URLSafeSerializer(
            derived, salt="penstock.parts", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def sign(self, ticket: Ticket) -> str:
        """Return a ticket as its owner holds it."""
        return str(self._serializer.dumps({**asdict(ticket), "expires": ticket.expires.isoformat()}))

    def unsign(self, text: str) -> Ticket | None:
        """Return a ticket; None when it is forged or damaged."""
        try:
            said: dict[str, Any] = self._serializer.loads(text)
            return Ticket(**{**said, "expires": datetime.fromisoformat(said["expires"])})
        except (BadData, TypeError, ValueError, KeyError):
            return None
