"""Objects of a store: their names, descriptions, parts and states."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from shared.errors import PenstockError
from shared.text import visible

PAGE_SIZE = 1000
"""Objects per page of a listing, S3's maximum."""
CHUNK_BYTES = 1 << 20
"""Large enough to keep a digest thread busy, small enough to hold many in memory."""

DEFAULT_MAX_BYTES = 10_000 * (5 << 20)
"""The largest object in parts of S3's minimum size; higher limits need larger parts, in memory."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object, or with `version_id` one stored version. The key is opaque: nothing normalizes it."""

    bucket: str
    key: str
    version_id: str | None = None

    def __str__(self) -> str:
        """Return an S3 URL for people, with invisible characters escaped."""
        return visible(f"s3://{self.bucket}/{self.key}")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The description of an object.

    `etag` is without quotes, `size` in bytes, `last_modified` in UTC by the store's clock. `metadata` holds the
    uploader's entries, names in lower case without `x-amz-meta-`. `checksums` is hex by algorithm (sha256, sha1, crc32,
    crc32c, crc64nvme) over the whole object if its upload had one; always empty in listings.
    """

    ref: ObjectRef
    etag: str
    size: int
    last_modified: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """The `STORED_HEADERS` of its upload, names in lower case; always empty in listings."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    is_described: bool = True
    """Whether content type and metadata are known; listings may lack them."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part: number from 1, etag as sent by the store, bytes, and CRC64/NVME in base64 if uploaded with one."""

    number: int
    etag: str
    size: int
    checksum: str = ""


class ObjectGone(PenstockError):  # noqa: N818 - a state of the object, not a fault of ours
    """The object or this version does not exist (any more)."""

    code = "NOT_FOUND"


class ObjectSuperseded(PenstockError):  # noqa: N818 - see ObjectGone
    """The object was overwritten since its etag was recorded; a newer event describes it."""

    code = "SUPERSEDED"
