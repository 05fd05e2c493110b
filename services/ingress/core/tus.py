"""tus 1.0.0: parsed headers, and the stored description of an upload."""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from services.ingress.core.names import RESERVED_METADATA, safe_key
from services.ingress.core.problems import HttpProblem, body_of
from services.ingress.core.write_headers import clean_metadata
from shared.errors import Rejected

VERSION: Final = "1.0.0"
EXTENSIONS: Final = ("creation", "creation-with-upload", "termination", "checksum", "expiration")
ALGORITHMS: Final = ("sha1", "md5", "sha256")
MEDIA_TYPE: Final = "application/offset+octet-stream"
MAX_CHECKED_BYTES: Final = 16 << 20
"""The most that a request with a checksum may bring: it is held in memory until it is found good."""
UPLOAD_ID_KEY: Final = "tus-upload"
"""Names the upload in the metadata of its object: by it a repeated completion knows its own work."""
ROUTING_METADATA: Final = ("filename", "filetype", "bucket", "key")
"""Upload metadata that name the target; the rest is stored with the object."""

MAX_METADATA_BYTES: Final = 8 << 10
"""Of the header: names, and in base64 what S3 stores."""

_ID: Final = re.compile(r"[0-9a-f]{32}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+( *;[ -~]*)?", re.ASCII)
MAX_STORED_METADATA_BYTES: Final = 2048
"""Bytes of metadata that S3 stores with an object, names included."""
_MAX_DIGITS: Final = 19


class ChecksumMismatch(HttpProblem):
    """The bytes of a request are not those of its checksum; tus has a status of its own for it."""

    status: Final = 460

    def document(self) -> dict[str, Any]:
        """Return the problem document."""
        return {**body_of(self), "title": "Checksum Mismatch", "status": self.status}


class Upload(BaseModel):
    """The stored description of an unfinished upload."""

    model_config = ConfigDict(frozen=True)

    id: str
    bucket: str
    key: str
    length: int
    owner: str
    by: str
    created: datetime
    expires: datetime
    metadata_header: str = Field(validation_alias=AliasChoices("metadata_header", "told"))
    """Upload-Metadata as received; the alias is its name in what version 0.x stored."""
    headers: Mapping[str, str]
    """What the object is stored with."""
    upload_id: str = ""
    """Of the multipart upload; what fits into one part needs none."""
    required: str | None = None
    """The etag that the object replaces, PRESENT or ABSENT; None for anything."""
    note_etag: str = Field("", exclude=True)
    """Of this description, where it was read: another request may have changed it since."""

    def is_expired(self) -> bool:
        """Return whether it has expired."""
        return datetime.now(UTC) >= self.expires


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """The request to create an upload."""

    id: str
    length: int
    metadata_header: str
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, length: str, metadata_header: str, limit: int) -> Self:
        """Read the headers of a creation.

        Raises Rejected: BAD_LENGTH, TOO_LARGE, BAD_METADATA.
        """
        size = parse_byte_count(length, "Upload-Length", "BAD_LENGTH")
        if size > limit:
            raise Rejected("TOO_LARGE", f"the upload has {size} bytes, and {limit} are allowed (Tus-Max-Size)")
        return cls(secrets.token_hex(16), size, metadata_header, parse_metadata(metadata_header))

    @property
    def key(self) -> str:
        """Return the object's key; raise Rejected for an invalid name."""
        return safe_key(self.metadata.get("key") or f"tus/{self.id}/{self.metadata.get('filename') or 'file'}")

    def headers(self) -> dict[str, str]:
        """Return the headers to store the object with: its type, and all metadata that do not name the target."""
        named = ((name.lower(), text) for name, text in self.metadata.items() if name not in ROUTING_METADATA)
        stored = {name: clean_metadata(name, text) for name, text in named if name not in RESERVED_METADATA}
        if sum(len(name) + len(text.encode()) for name, text in stored.items()) > MAX_STORED_METADATA_BYTES:
            raise Rejected(
                "BAD_METADATA", f"Upload-Metadata has more than {MAX_STORED_METADATA_BYTES} bytes to keep: shorten it"
            )
        described = {f"x-amz-meta-{name}": text for name, text in {**stored, UPLOAD_ID_KEY: self.id}.items()}
        kind = self.metadata.get("filetype", "")
        return described | ({"content-type": kind} if _MEDIA_TYPE.fullmatch(kind) else {})

    def to_upload(  # noqa: PLR0913 - the fields of an upload
        self, bucket: str, key: str, *, owner: str, by: str, ttl: timedelta, required: str | None = None
    ) -> Upload:
        """Return the upload that begins now."""
        now = datetime.now(UTC)
        return Upload(
            id=self.id,
            bucket=bucket,
            key=key,
            length=self.length,
            owner=owner,
            by=by,
            created=now,
            expires=now + ttl,
            metadata_header=self.metadata_header,
            headers=self.headers(),
            required=required,
        )


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request must digest to."""

    algorithm: str
    digest: bytes

    @classmethod
    def of(cls, text: str) -> Self:
        """Read Upload-Checksum; raises Rejected (BAD_CHECKSUM)."""
        algorithm, _, encoded = text.strip().partition(" ")
        if algorithm not in ALGORITHMS:
            known = ", ".join(ALGORITHMS)
            raise Rejected("BAD_CHECKSUM", f"Upload-Checksum has the algorithm {algorithm[:20]!r}: use one of {known}")
        return cls(algorithm, _decoded(encoded.strip(), "BAD_CHECKSUM", "Upload-Checksum"))

    def verify(self, body: bytes | bytearray) -> None:
        """Raise Problem (CHECKSUM_MISMATCH) when `body` is not what was sent."""
        found = hashlib.new(self.algorithm, body, usedforsecurity=False).digest()
        if not hmac.compare_digest(found, self.digest):
            raise ChecksumMismatch(
                "CHECKSUM_MISMATCH", f"the bytes are not those of the {self.algorithm}: send them again"
            )


def is_upload_id(text: str) -> bool:
    """Return whether `text` has the form of an upload id."""
    return _ID.fullmatch(text) is not None


def parse_byte_count(text: str, header: str, code: str) -> int:
    """Read a header that counts bytes; raises Rejected (`code`)."""
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        raise Rejected(code, f"{header} is {text[:40]!r}: send how many bytes, as a number")
    return int(text)


def parse_metadata(header: str) -> dict[str, str]:
    """Read Upload-Metadata: names, each with a value in base64 or none; raises Rejected (BAD_METADATA)."""
    if len(header) > MAX_METADATA_BYTES:
        raise Rejected("BAD_METADATA", f"Upload-Metadata has more than {MAX_METADATA_BYTES} bytes: shorten it")
    found: dict[str, str] = {}
    for pair in header.split(",") if header.strip() else ():
        name, _, encoded = pair.strip().partition(" ")
        if not _NAME.fullmatch(name) or name in found:
            raise Rejected("BAD_METADATA", f"Upload-Metadata has the name {name[:40]!r}: send plain names, each once")
        try:
            found[name] = _decoded(encoded.strip(), "BAD_METADATA", f"{name} in Upload-Metadata").decode()
        except UnicodeDecodeError:
            raise Rejected("BAD_METADATA", f"{name} in Upload-Metadata is no UTF-8: send text") from None
    return found


def _decoded(encoded: str, code: str, what: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Rejected(code, f"{what} is no base64: encode it") from None
