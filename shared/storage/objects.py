"""What an object is to us, and what a store can do with it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from typing_extensions import Buffer

from shared.errors import PenstockError

PAGE_SIZE = 1000
"""Objects in a page of a listing, the most that S3 gives."""
CHUNK_BYTES = 1 << 20
"""Bytes: large enough that a digest thread is busy, small enough to hold many."""

DEFAULT_MAX_BYTES = 10_000 * (5 << 20)
"""Bytes that are written in the smallest parts S3 takes; whoever allows more pays with larger ones, in memory."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object, or with `version_id` one stored version. The key is opaque text: nothing normalises it."""

    bucket: str
    key: str
    version_id: str | None = None

    def __str__(self) -> str:
        """Name the object for a person; what a terminal would obey is escaped."""
        text = f"s3://{self.bucket}/{self.key}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says about an object.

    `etag` is without quotes, `size` in bytes, `last_modified` in UTC by the store's clock. `metadata` holds
    the uploader's own names, lower case, without `x-amz-meta-`. `checksums` is hex by algorithm (sha256,
    sha1, crc32, crc32c, crc64nvme) over the whole object, where its upload brought one; listings know none.
    """

    ref: ObjectRef
    etag: str
    size: int
    last_modified: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """The `KEPT` headers that came with its upload, names in lower case; listings know none."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    is_described: bool = True
    """Whether content type and metadata are known; in a listing they may not be."""


class ObjectGone(PenstockError):  # noqa: N818 - a finding about the object, not a failure of ours
    """The object or this version is not there (any more)."""

    code = "NOT_FOUND"


class ObjectSuperseded(PenstockError):  # noqa: N818 - see ObjectGone
    """The object was overwritten since its etag was noted: a newer event does the work."""

    code = "SUPERSEDED"


class ObjectWriter(Protocol):
    """One object on its way."""

    info: ObjectInfo
    """What was stored; there once the block has ended."""

    @property
    def size(self) -> int:
        """Bytes so far."""

    async def write(self, chunk: Buffer) -> None:
        """Take the next bytes; waits while the store is slower than their source.

        Raises Rejected (TOO_LARGE) past the limit.
        """


class ObjectStore(Protocol):
    """Objects by reference.

    Every method raises Outage when the store cannot serve, and Rejected when it refuses.
    A missing object is ObjectGone, another etag than the one asked for is ObjectSuperseded.
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

        A body that breaks off in the middle is an Outage: what was read so far is not the object.
        """

    async def read(
        self, ref: ObjectRef, *, etag: str | None = None, limit: int | None = None, end: int | None = None
    ) -> tuple[ObjectInfo, bytes]:
        """Read a whole object in one request; one of more than `limit` bytes is Rejected before its body is read.

        With `end`, only the bytes before it; an object without any is then Rejected (RANGE_PAST_END).
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

        With `described`, MinIO gives these too; `is_described` says for each object whether the store did.
        """

    def list_versions(
        self, bucket: str, *, prefix: str = "", page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List current objects in key order as `list` does, with their version ids, described where the store does."""

    async def has_versions(self, bucket: str) -> bool:
        """Whether a bucket keeps, or has kept, several versions of an object; False where the store does not tell."""

    async def check(self) -> None:
        """Raise Outage while the store serves nobody, whatever becomes of a single object."""

    async def put(
        self,
        ref: ObjectRef,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        """Store a small output in one request; `last_modified` of the answer is this machine's clock."""

    def write(  # noqa: PLR0913 - what may be said of an object
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
        """Write an object of unknown size up to `limit` bytes; it appears whole when the block ends well, else not.

        `headers` are those of `KEPT`. With `if_match`, only in place of the version with that etag, of any where it is
        PRESENT, or of none where it is ABSENT; anything else there is ObjectSuperseded. Without `keep_checksum` the
        store checks the bytes and keeps no checksum with them: whoever reads one takes it for the uploader's word.
        """

    async def copy(self, source: ObjectRef, ref: ObjectRef) -> None:
        """Copy an object of up to 5 GiB inside the store, with what is known of it."""

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> None:
        """Remove an object, or one version; removing what is not there is no error.

        `if_match` is sent along. MinIO does not look at it: a caller that must not remove another version looks itself
        right before, and one that is stored between the two requests is removed nevertheless.
        """

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove many objects of a bucket, likewise; those before one that fails are gone."""
