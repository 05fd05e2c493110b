"""The port to an object store, which services are typed against; `shared.testing.objects` fulfils it in memory.

All methods raise Outage if the store cannot serve the request, Rejected if it refuses it, ObjectGone for a missing
object or upload, and ObjectSuperseded if the object has another etag than the given one.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from typing_extensions import Buffer

from shared.storage.objects import CHUNK_BYTES, DEFAULT_MAX_BYTES, PAGE_SIZE, ObjectInfo, ObjectRef, Part


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


class MultipartPort(Protocol):
    """Multipart upload requests, for an object written over several HTTP requests."""

    async def begin(self, ref: ObjectRef, headers: Mapping[str, str]) -> str:
        """Begin an upload of an object with `headers`; return the upload id."""

    async def send(  # noqa: PLR0913 - the parts of a part
        self,
        ref: ObjectRef,
        upload_id: str,
        number: int,
        body: bytes | AsyncIterable[bytes],
        *,
        size: int,
        checksum: str = "",
    ) -> Part:
        """Send one part of `size` bytes, replacing an earlier one of this number.

        `checksum` is its CRC64/NVME in base64.
        """

    async def parts(self, ref: ObjectRef, upload_id: str) -> list[Part]:
        """Return the stored parts by number."""

    async def complete(
        self,
        ref: ObjectRef,
        upload_id: str,
        parts: Sequence[Part],
        *,
        headers: Mapping[str, str] | None = None,
        begun_with: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Create the object from `parts`; `begun_with` are the headers of `begin`, used only for the ObjectInfo."""

    async def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Abort an upload and remove its parts; a missing upload is not an error."""


class ObjectStore(Protocol):
    """An object store."""

    uploads: MultipartPort

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

    async def put_with_headers(self, ref: ObjectRef, body: bytes, headers: Mapping[str, str]) -> ObjectInfo:
        """Store a small object with `headers`, such as preconditions and `x-amz-meta-*`; names in lower case."""

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
    ) -> AbstractAsyncContextManager[ObjectWriter]:
        """Write an object of unknown size up to `limit` bytes; it appears only if the block ends without an error.

        `headers` are some of `STORED_HEADERS`. `if_match` is the etag of the version to overwrite, PRESENT for any
        version, or ABSENT for none; otherwise ObjectSuperseded is raised. Without `keep_checksum` the store verifies
        the bytes but keeps no checksum: readers take a stored checksum for one that the uploader declared.
        """

    def begin_upload(self, ref: ObjectRef, headers: Mapping[str, str]) -> AbstractAsyncContextManager[str]:
        """Begin an upload that outlives this process and yield its id; if the block fails, it is removed later."""

    async def abort_abandoned(self, in_doubt: Callable[[ObjectRef], Awaitable[object]]) -> int:
        """Abort uploads that `write` or `begin_upload` left open, also in killed processes; return their number.

        `in_doubt` is called for each whose object may exist, stored without a notification.
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
