"""The object store that services use: S3 over one HTTP session, without a client library (docs/adr/0001).

Keys are sent unaltered. One GET returns bytes, metadata and stored checksums.
"""

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import aiohttp
from typing_extensions import Buffer

from shared import tls
from shared.errors import Rejected
from shared.object_headers import match_header, precondition_headers
from shared.settings import Settings
from shared.storage import removal
from shared.storage.failures import require_credentials
from shared.storage.journal import UploadJournal
from shared.storage.multipart import MultipartUploads
from shared.storage.objects import CHUNK_BYTES, DEFAULT_MAX_BYTES, PAGE_SIZE, ObjectInfo, ObjectRef
from shared.storage.port import MultipartPort, ObjectStore
from shared.storage.responses import META, Page, describe, describe_stored, parse_page, parse_version_page
from shared.storage.signing import path_of
from shared.storage.transport import FIRST_ERROR_STATUS, Transport
from shared.storage.writer import Writer

MAX_CONNECTIONS: Final = 128
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
"""Limits connecting and the time between reads: a stalled body times out, a large one does not."""
_ASK_CHECKSUMS: Final = {"x-amz-checksum-mode": "ENABLED"}


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[ObjectStore]:
    """Open the object store of `settings`; sends no request before the first operation."""
    require_credentials(settings)
    journal = UploadJournal(settings.state_dir)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=tls.context(settings)),
        timeout=TIMEOUT,
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
    ) as session:
        try:
            yield S3(Transport(settings, session), journal)
        finally:
            journal.close()


class S3:
    """An object store over signed HTTP requests."""

    def __init__(self, transport: Transport, journal: UploadJournal) -> None:
        self._transport = transport
        self._uploads = MultipartUploads(transport)
        self.uploads: MultipartPort = self._uploads
        self._journal = journal

    async def check(self) -> None:
        """Raise Outage if the store serves no requests at all."""
        await self._transport.check()

    async def head(self, ref: ObjectRef) -> ObjectInfo:
        """Describe an object, including checksums."""
        with self._transport.translate_errors("look at", ref):
            async with self._transport.send("HEAD", ref, headers=_ASK_CHECKSUMS) as response:
                if response.status < FIRST_ERROR_STATUS:
                    return describe(ref, response.headers)
            # the answer to HEAD has no body and so no error code; the answer to GET has
            async with self._transport.open_response("look at", "GET", ref, headers=_ASK_CHECKSUMS) as response:
                return describe(ref, response.headers)

    async def read(
        self, ref: ObjectRef, *, etag: str | None = None, limit: int | None = None, end: int | None = None
    ) -> tuple[ObjectInfo, bytes]:
        """Read a small object or its first `end` bytes, including checksums."""
        with self._transport.translate_errors("read", ref):
            byte_range = {"range": f"bytes=0-{end - 1}"} if end is not None else {}
            headers = {**_ASK_CHECKSUMS, **match_header(etag), **byte_range}
            async with self._transport.open_response("read", "GET", ref, headers=headers) as response:
                info = describe(ref, response.headers)
                if limit is not None and info.size > limit:
                    raise Rejected("SIZE_DIFFERS", f"{ref} has {info.size} bytes, not {limit} as announced")
                return info, await response.read()

    @asynccontextmanager
    async def stream(
        self,
        ref: ObjectRef,
        *,
        etag: str | None = None,
        start: int = 0,
        end: int | None = None,
        chunk_size: int = CHUNK_BYTES,
    ) -> AsyncIterator[AsyncIterator[Buffer]]:
        """Read bytes `start` to `end`; chunks exceed `chunk_size` by up to 256 KiB, the last may be smaller."""
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"an empty range: {start} to {end}")
        byte_range = {"range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        async with AsyncExitStack() as stack:
            with self._transport.translate_errors("read", ref):
                headers = {**match_header(etag), **byte_range}
                request = self._transport.open_response("read", "GET", ref, headers=headers)
                response = await stack.enter_async_context(request)
            yield self._chunks(ref, response, chunk_size)

    async def list(
        self,
        bucket: str,
        *,
        prefix: str = "",
        start_after: str = "",
        page_size: int = PAGE_SIZE,
        described: bool = False,
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List in key order, in pages of up to `page_size`."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "start-after": start_after}
        query |= {"metadata": "true"} if described else {}
        async for page in self._pages(bucket, {**query, "max-keys": str(page_size)}, parse_page):
            yield page

    async def list_versions(
        self, bucket: str, *, prefix: str = "", page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List current objects with their version ids; a page holds up to `page_size` versions, so fewer objects.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
        """
        query = {"versions": "", "encoding-type": "url", "prefix": prefix, "max-keys": str(page_size)}
        async for page in self._pages(bucket, {**query, "metadata": "true"}, parse_version_page):
            yield page

    async def _pages(
        self, bucket: str, query: dict[str, str], parse: Callable[[str, bytes], Page]
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Request all pages; `parse` returns a page and the query of the next one, None after the last."""
        next_query: Mapping[str, str] | None = {}
        while next_query is not None:
            _, body = await self._transport.request("list", "GET", ObjectRef(bucket, ""), query={**query, **next_query})
            try:
                page, next_query = parse(bucket, body)
            except ET.ParseError:
                if query.pop("metadata", None) is None:
                    raise
                continue  # MinIO writes metadata names as XML tags, even names that are invalid there
            yield page

    async def has_versions(self, bucket: str) -> bool:
        """Return whether a bucket keeps versions, or did before versioning was suspended.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html
        """
        try:
            _, body = await self._transport.request("look at", "GET", ObjectRef(bucket, ""), query={"versioning": ""})
        except Rejected:  # the store has no versioning, or the user may not query it
            return False
        # MinIO answers with the namespace of the request that set it, or without one
        return ET.fromstring(body).findtext("{*}Status") in {"Enabled", "Suspended"}  # noqa: S314 - as in `parse_page`

    async def put(
        self,
        ref: ObjectRef,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        """Store a small object."""
        return await self.put_with_headers(ref, body, _headers(metadata, content_type))

    async def put_with_headers(self, ref: ObjectRef, body: bytes, headers: Mapping[str, str]) -> ObjectInfo:
        """Store a small object with `headers`, names in lower case."""
        answer, _ = await self._transport.request("write", "PUT", ref, headers=headers, body=body)
        return describe_stored(ref, answer, answer["ETag"], len(body), headers)

    @asynccontextmanager
    async def write(  # noqa: PLR0913 - the properties of an object
        self,
        ref: ObjectRef,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = DEFAULT_MAX_BYTES,
        if_match: str | None = None,
        keep_checksum: bool = True,
    ) -> AsyncIterator[Writer]:
        """Write an object of unknown size; it appears only if the block ends without an error."""
        all_headers = {**(headers or {}), **_headers(metadata, content_type), **precondition_headers(if_match)}
        writer = Writer(self, ref, headers=all_headers, limit=limit, journal=self._journal, keep_checksum=keep_checksum)
        try:
            yield writer
            await writer.finish()
        except BaseException:
            # a cancelled writer still removes its parts
            await asyncio.shield(writer.abort())
            raise

    @asynccontextmanager
    async def begin_upload(self, ref: ObjectRef, headers: Mapping[str, str]) -> AsyncIterator[str]:
        """Begin an upload that outlives this process and yield its id; if the block fails, it is removed later."""
        entry = self._journal.opening(ref)
        try:
            upload_id = await self.uploads.begin(ref, headers)
            self._journal.opened(entry, upload_id)
            yield upload_id
        except BaseException:
            self._journal.left(entry)
            raise
        self._journal.closed(entry)

    async def copy(self, source: ObjectRef, ref: ObjectRef) -> None:
        """Copy an object of up to 5 GiB inside the store, with metadata and headers."""
        headers = {"x-amz-copy-source": path_of(source.bucket, source.key)}
        await self._transport.request("copy", "PUT", ref, headers=headers)

    async def abort_abandoned(self, in_doubt: Callable[[ObjectRef], Awaitable[object]]) -> int:
        """Abort open uploads that this process or killed ones of this state folder left; return their number.

        `in_doubt` is called for each that may have been completed: MinIO stores an object without a notification if the
        client disconnects during the completion.
        """
        removed = 0
        for uploads, forget in self._journal.abandoned():
            for one in uploads:
                removed += await self._uploads.abort_abandoned(one)
                if one.is_in_doubt:
                    await in_doubt(one.ref)
            forget()
        return removed

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> None:
        """Remove an object or a version."""
        await self._transport.request("delete", "DELETE", ref, headers=precondition_headers(if_match))

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove several objects, up to 1,000 with one request."""
        together = [key for key in keys if removal.fits_into_xml(key)]
        one_by_one = [key for key in keys if not removal.fits_into_xml(key)]
        for start in range(0, len(together), PAGE_SIZE):
            headers, body = removal.request_of(together[start : start + PAGE_SIZE])
            ref = ObjectRef(bucket, "")
            with self._transport.translate_errors("delete from", ref):
                request = {"query": {"delete": ""}, "headers": headers, "body": body}
                async with self._transport.open_response("delete from", "POST", ref, **request) as response:
                    one_by_one += removal.failed_in(await response.read())
        for key in one_by_one:  # the answer for a single object has the error code
            await self.delete(ObjectRef(bucket, key))

    async def _chunks(self, ref: ObjectRef, response: aiohttp.ClientResponse, chunk_size: int) -> AsyncIterator[bytes]:
        with self._transport.translate_errors("read", ref):
            pieces: list[bytes] = []
            size = 0
            # `readexactly` copies every byte twice and returns its memory to the system after each chunk
            async for piece, _ in response.content.iter_chunks():
                pieces.append(piece)
                size += len(piece)
                if size >= chunk_size:
                    chunk, pieces, size = b"".join(pieces), [], 0
                    yield chunk
            if pieces:
                yield b"".join(pieces)


def _headers(metadata: Mapping[str, str] | None, content_type: str | None) -> dict[str, str]:
    own = {f"{META}{name}": value for name, value in (metadata or {}).items()}
    return own | ({"content-type": content_type} if content_type else {})
