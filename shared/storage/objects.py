"""The protocol of an object store, and its types."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from typing_extensions import Buffer

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


class ObjectGone(PenstockError):  # noqa: N818 - a state of the object, not a fault of ours
    """The object or this version does not exist (any more)."""

    code = "NOT_FOUND"


class ObjectSuperseded(PenstockError):  # noqa: N818 - see ObjectGone
    """The object was overwritten since its etag was recorded; a newer event describes it."""

    code = "SUPERSEDED"


class ObjectWriter(Protocol):
    """Writes one object."""

    info: ObjectInfo
    """The stored object; set once the `write` block has ended."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    async def write(self, chunk: Buffer) -> None:
        """Write the next bytes; wait while the store is slower than the source.

        Raises:
            Rejected: TOO_LARGE past the limit.

        """


class ObjectStore(Protocol):
    """An object store.

    All methods raise Outage if the store cannot serve the request, Rejected if it refuses it, ObjectGone for a missing
    object, and ObjectSuperseded if the object has another etag than the given one.
    """

    async def head(self, ref: ObjectRef) -> ObjectInfo:
        """Describe an object."""

    def stream(
        self,
        ref: ObjectRef,
        *,
        etag: str | None = None,
        start: int = 0,
        end: int | None = None,
        chunk_size: int = CHUNK_BYTES,
    ) -> AbstractAsyncContextManager[AsyncIterator[Buffer]]:
        """Read bytes `start` to `end` (exclusive) in chunks of about `chunk_size`, a few of them in memory.

        A body that ends early is an Outage.
        """

    async def read(
        self, ref: ObjectRef, *, etag: str | None = None, limit: int | None = None, end: int | None = None
    ) -> tuple[ObjectInfo, bytes]:
        """Read an object in one request, or its first `end` bytes.

        Raises:
            Rejected: SIZE_DIFFERS for an object of more than `limit` bytes, before reading its body; RANGE_PAST_END for
                an empty object with `end`.

        """

    def list(
        self,
        bucket: str,
        *,
        prefix: str = "",
        start_after: str = "",
        page_size: int = PAGE_SIZE,
        described: bool = False,
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List current objects in key order, in pages of up to `page_size`, without content type and metadata.

        With `described`, MinIO adds them; `is_described` says whether the store did for an object.
        """

    def list_versions(
        self, bucket: str, *, prefix: str = "", page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List current objects in key order with their version ids, described if the store supports it."""

    async def has_versions(self, bucket: str) -> bool:
        """Return whether a bucket keeps, or has kept, several versions of an object; False if unknown."""

    async def check(self) -> None:
        """Raise Outage if the store serves no requests at all."""

    async def put(
        self,
        ref: ObjectRef,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        """Store a small object in one request; `last_modified` of the result is this machine's clock."""

    def write(  # noqa: PLR0913 - the properties of an object
        self,
        ref: ObjectRef,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = DEFAULT_MAX_BYTES,
        if_match: str | None = None,
        keep_checksum: bool = True,
    ) -> AbstractAsyncContextManager["ObjectWriter"]:
        """Write an object of unknown size up to `limit` bytes; it appears only if the block ends without an error.

        `headers` are some of `STORED_HEADERS`. `if_match` is the etag of the version to overwrite, PRESENT for any
        version, or ABSENT for none; otherwise ObjectSuperseded is raised. Without `keep_checksum` the store verifies
        the bytes but keeps no checksum: readers take a stored checksum for one that the uploader declared.
        """

    async def copy(self, source: ObjectRef, ref: ObjectRef) -> None:
        """Copy an object of up to 5 GiB inside the store, with metadata and headers."""

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> None:
        """Remove an object or one version; a missing one is not an error.

        MinIO ignores `if_match`: a caller that must not remove another version checks right before, and a version that
        is stored between the two requests is removed all the same.
        """

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove several objects of a bucket; on an error, those before the failed one are removed."""
