"""The object store that services use: S3 over one HTTP session, without a client library (docs/adr/0001).

Keys are sent unaltered. One GET returns bytes, metadata and stored checksums.
"""

import asyncio
import base64
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from io import BytesIO
from typing import Any, Final
from urllib.parse import unquote_plus, urlsplit

import aiohttp
from typing_extensions import Buffer
from yarl import URL

from shared import tls
from shared.encoded_words import decode_words
from shared.errors import Kind, Outage, Rejected, kind_of
from shared.object_headers import ABSENT, PRESENT, STORED_HEADERS
from shared.settings import Settings
from shared.storage import removal
from shared.storage.credentials import CredentialCheck
from shared.storage.failures import Failure, require_credentials
from shared.storage.journal import UploadJournal
from shared.storage.multipart import MultipartUploads, error_in
from shared.storage.objects import CHUNK_BYTES, DEFAULT_MAX_BYTES, PAGE_SIZE, ObjectInfo, ObjectRef
from shared.storage.signing import Signer, path_of, query_of
from shared.storage.writer import Writer

MAX_CONNECTIONS: Final = 128
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
"""Limits connecting and the time between reads: a stalled body times out, a large one does not."""
_NETWORK: Final = (aiohttp.ClientError, OSError, TimeoutError)
_UNSENDABLE: Final = re.compile("[\x00\r\n]")
"""Characters that would end a header."""
CHECK_SECONDS: Final = 5.0
_META: Final = "x-amz-meta-"
_CHECKSUM: Final = "x-amz-checksum-"
_CHECKSUMS: Final = ("sha256", "sha1", "crc32", "crc32c", "crc64nvme")
_ASK_CHECKSUMS: Final = {"x-amz-checksum-mode": "ENABLED"}
_ERROR_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")
_XML: Final = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_ERROR_BYTES: Final = 4096
_FIRST_ERROR_STATUS: Final = 300
_LOCATION: Final = {"location": ""}
"""https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html"""
# objects that arrived within one second share a date, and are read one after another
_date = lru_cache(maxsize=256)(parsedate_to_datetime)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator["S3"]:
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
            yield S3(settings, session, journal)
        finally:
            journal.close()


class S3:
    """An ObjectStore over signed HTTP requests."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, journal: UploadJournal) -> None:
        self.uploads = MultipartUploads(self)
        self._journal = journal
        self._settings = settings
        self._session = session
        self._host = urlsplit(settings.s3_endpoint).netloc
        self._signer = Signer(settings.s3_access_key, settings.s3_secret_key, settings.s3_region)
        self._credentials = CredentialCheck(self._credentials_work)

    async def check(self) -> None:
        """Raise Outage if the store serves no requests at all; any other answer means that it works.

        Nothing in the request comes from a record, so no single object can make it fail.
        """
        ref = ObjectRef(self._settings.input_buckets[0], "")
        with self._translate_errors("look at", ref):
            async with asyncio.timeout(CHECK_SECONDS), self._send("GET", ref, query=_LOCATION) as response:
                failure = await self._failure("look at", ref, response)
        if response.status >= _FIRST_ERROR_STATUS and kind_of(found := failure.to_error(self._settings)) is Kind.OUTAGE:
            raise found

    async def _credentials_work(self) -> bool:
        try:
            await self.check()
        except Outage:
            return False
        return True

    async def head(self, ref: ObjectRef) -> ObjectInfo:
        """Describe an object, including checksums."""
        with self._translate_errors("look at", ref):
            async with self._send("HEAD", ref, headers=_ASK_CHECKSUMS) as response:
                if response.status < _FIRST_ERROR_STATUS:
                    return _info(ref, response)
            # the answer to HEAD has no body and so no error code; the answer to GET has
            async with self._open_response("look at", "GET", ref, headers=_ASK_CHECKSUMS) as response:
                return _info(ref, response)

    async def read(
        self, ref: ObjectRef, *, etag: str | None = None, limit: int | None = None, end: int | None = None
    ) -> tuple[ObjectInfo, bytes]:
        """Read a small object or its first `end` bytes, including checksums."""
        with self._translate_errors("read", ref):
            byte_range = {"range": f"bytes=0-{end - 1}"} if end is not None else {}
            headers = {**_ASK_CHECKSUMS, **_condition(etag), **byte_range}
            async with self._open_response("read", "GET", ref, headers=headers) as response:
                info = _info(ref, response)
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
            with self._translate_errors("read", ref):
                request = self._open_response("read", "GET", ref, headers={**_condition(etag), **byte_range})
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
        async for page in self._pages(bucket, {**query, "max-keys": str(page_size)}, _page):
            yield page

    async def list_versions(
        self, bucket: str, *, prefix: str = "", page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List current objects with their version ids; a page holds up to `page_size` versions, so fewer objects.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
        """
        query = {"versions": "", "encoding-type": "url", "prefix": prefix, "max-keys": str(page_size)}
        async for page in self._pages(bucket, {**query, "metadata": "true"}, _version_page):
            yield page

    async def _pages(
        self, bucket: str, query: dict[str, str], parse: Callable[[str, bytes], "_Page"]
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Request all pages; `parse` returns a page and the query of the next one, None after the last."""
        next_query: Mapping[str, str] | None = {}
        while next_query is not None:
            _, body = await self.request("list", "GET", ObjectRef(bucket, ""), query={**query, **next_query})
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
            _, body = await self.request("look at", "GET", ObjectRef(bucket, ""), query={"versioning": ""})
        except Rejected:  # the store has no versioning, or the user may not query it
            return False
        # MinIO answers with the namespace of the request that set it, or without one
        return ET.fromstring(body).findtext("{*}Status") in {"Enabled", "Suspended"}  # noqa: S314 - as in `_page`

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
        answer, _ = await self.request("write", "PUT", ref, headers=headers, body=body)
        return self.describe_stored(ref, answer, answer["ETag"], len(body), headers)

    @staticmethod
    def describe_stored(
        ref: ObjectRef, answer: Mapping[str, str], etag: str, size: int, headers: Mapping[str, str]
    ) -> ObjectInfo:
        """Describe an object just stored with `headers`; its time is this machine's clock."""
        return ObjectInfo(
            ref=ObjectRef(ref.bucket, ref.key, _version(answer)),
            etag=etag.strip('"'),
            size=size,
            last_modified=datetime.now(UTC),
            content_type=headers.get("content-type"),
            metadata=_own_metadata(headers),
            headers=_stored_headers(headers),
        )

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

    async def request(self, action: str, method: str, ref: ObjectRef, **sent: Any) -> tuple[Mapping[str, str], bytes]:
        """Send one request; return the headers and the body of the answer."""
        with self._translate_errors(action, ref):
            async with self._open_response(action, method, ref, **sent) as response:
                body = await response.read()
                # a slow request answers 200 at once and reports an error in the body
                if code := error_in(body):
                    raise Failure(action, ref, 500, code).to_error(self._settings)
                return response.headers, body

    async def copy(self, source: ObjectRef, ref: ObjectRef) -> None:
        """Copy an object of up to 5 GiB inside the store, with metadata and headers."""
        await self.request("copy", "PUT", ref, headers={"x-amz-copy-source": path_of(source.bucket, source.key)})

    async def abort_abandoned(self, in_doubt: Callable[[ObjectRef], Awaitable[object]]) -> int:
        """Abort open uploads that this process or killed ones of this state folder left; return their number.

        `in_doubt` is called for each that may have been completed: MinIO stores an object without a notification if the
        client disconnects during the completion.
        """
        removed = 0
        for uploads, forget in self._journal.abandoned():
            for one in uploads:
                removed += await self.uploads.abort_abandoned(one)
                if one.is_in_doubt:
                    await in_doubt(one.ref)
            forget()
        return removed

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> None:
        """Remove an object or a version."""
        await self.request("delete", "DELETE", ref, headers=precondition_headers(if_match))

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove several objects, up to 1,000 with one request."""
        together = [key for key in keys if removal.fits_into_xml(key)]
        one_by_one = [key for key in keys if not removal.fits_into_xml(key)]
        for start in range(0, len(together), PAGE_SIZE):
            headers, body = removal.request_of(together[start : start + PAGE_SIZE])
            ref = ObjectRef(bucket, "")
            with self._translate_errors("delete from", ref):
                query = {"delete": ""}
                request = self._open_response("delete from", "POST", ref, query=query, headers=headers, body=body)
                async with request as response:
                    one_by_one += removal.failed_in(await response.read())
        for key in one_by_one:  # the answer for a single object has the error code
            await self.delete(ObjectRef(bucket, key))

    def _send(
        self,
        method: str,
        ref: ObjectRef,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] = b"",
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        version = {"versionId": ref.version_id} if ref.version_id else {}
        if any(_UNSENDABLE.search(value) for value in (headers or {}).values()):
            raise _unsendable(ref)
        try:
            path, query_string = path_of(ref.bucket, ref.key), query_of({**(query or {}), **version})
        except UnicodeEncodeError as error:
            raise _unsendable(ref) from error
        whole_body = body if isinstance(body, bytes) else None
        signed = self._signer.sign(method, self._host, path, query_string, headers or {}, whole_body)
        target = f"{path}?{query_string}" if query_string else path
        url = URL(f"{self._settings.s3_endpoint.rstrip('/')}{target}", encoded=True)
        return self._session.request(
            method,
            url,
            headers=signed,
            data=body if whole_body is None else BytesIO(whole_body) if whole_body else None,
            allow_redirects=False,
        )

    @asynccontextmanager
    async def _open_response(
        self, action: str, method: str, ref: ObjectRef, **sent: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        is_repeatable = isinstance(sent.get("body", b""), bytes)
        started = time.monotonic()
        async with self._send(method, ref, **sent) as response:
            if response.status < _FIRST_ERROR_STATUS:
                yield response
                return
            failure = await self._failure(action, ref, response)
        if not failure.is_about_credentials or not await self._credentials.works(started):
            raise failure.to_error(self._settings)
        if is_repeatable:  # the credentials may have become valid between the two requests
            async with self._send(method, ref, **sent) as response:
                if response.status < _FIRST_ERROR_STATUS:
                    yield response
                    return
                failure = await self._failure(action, ref, response)
        raise failure.to_error(self._settings, credentials_work=True)

    @staticmethod
    async def _failure(action: str, ref: ObjectRef, response: aiohttp.ClientResponse) -> Failure:
        code = _ERROR_CODE.search(await response.content.read(_ERROR_BYTES))
        return Failure(action, ref, response.status, code[1].decode() if code else "")

    async def _chunks(self, ref: ObjectRef, response: aiohttp.ClientResponse, chunk_size: int) -> AsyncIterator[bytes]:
        with self._translate_errors("read", ref):
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

    @contextmanager
    def _translate_errors(self, action: str, ref: ObjectRef) -> Iterator[None]:
        try:
            yield
        except aiohttp.InvalidURL as error:
            raise _unsendable(ref) from error
        except _NETWORK as error:
            reason = tls.describe_failure(error) or f"connection failed ({type(error).__name__})"
            raise Failure(action, ref, None, detail=reason).to_error(self._settings) from error


def _unsendable(ref: ObjectRef) -> Rejected:
    return Rejected("S3_REFUSED", f"the names in a request for {ref} do not fit into a URL or header: rename it")


def _headers(metadata: Mapping[str, str] | None, content_type: str | None) -> dict[str, str]:
    own = {f"{_META}{name}": value for name, value in (metadata or {}).items()}
    return own | ({"content-type": content_type} if content_type else {})


def precondition_headers(if_match: str | None) -> dict[str, str]:
    """Return the If-Match or If-None-Match header for an etag, PRESENT or ABSENT."""
    if if_match in {PRESENT, ABSENT}:
        return {"if-match" if if_match == PRESENT else "if-none-match": "*"}
    return _condition(if_match)


def _condition(etag: str | None) -> dict[str, str]:
    return {"if-match": f'"{etag}"'} if etag else {}


def _version(headers: Mapping[str, str]) -> str | None:
    version_id = headers.get("x-amz-version-id")
    return None if version_id == "null" else version_id


def _info(ref: ObjectRef, response: aiohttp.ClientResponse) -> ObjectInfo:
    headers = response.headers
    return ObjectInfo(
        ref=ObjectRef(ref.bucket, ref.key, _version(response.headers)),
        etag=headers["ETag"].strip('"'),
        size=_whole_size(headers),
        last_modified=_date(headers["Last-Modified"]),
        content_type=None if (value := headers.get("Content-Type")) is None else _text(value),
        metadata={name: decode_words(_text(value)) for name, value in _own_metadata(headers).items()},
        headers={name: _text(value) for name, value in _stored_headers(headers).items()},
        checksums=_whole_checksums(headers),
    )


def _whole_size(headers: Mapping[str, str]) -> int:
    """Return the object's size, also from the answer to a range request."""
    return int(headers.get("Content-Range", headers["Content-Length"]).rpartition("/")[2])


def _text(header: str) -> str:
    """Decode a header's value, with U+FFFD for invalid UTF-8."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _own_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    named = ((name.lower(), value) for name, value in headers.items())
    return {name.removeprefix(_META): value for name, value in named if name.startswith(_META)}


def _stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in STORED_HEADERS if name in headers}


def _whole_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Return in hex the checksums over the object's bytes; skip those over checksums of parts, which end in `-N`."""
    if headers.get(f"{_CHECKSUM}type") == "COMPOSITE":
        return {}
    found = ((name, headers.get(f"{_CHECKSUM}{name}")) for name in _CHECKSUMS)
    return {name: base64.b64decode(value).hex() for name, value in found if value and "-" not in value}


_Page = tuple[list[ObjectInfo], Mapping[str, str] | None]


def _page(bucket: str, body: bytes) -> _Page:
    """Parse a page of a listing; return its objects and the query of the next page."""
    root = ET.fromstring(body)  # noqa: S314 - our own object store wrote it
    page = [_listed(bucket, entry) for entry in root.iterfind(f"{_XML}Contents")]
    token = root.findtext(f"{_XML}NextContinuationToken")
    return page, None if token is None else {"continuation-token": token}


def _version_page(bucket: str, body: bytes) -> _Page:
    """Parse a page of a listing of versions; return the current objects and the query of the next page."""
    root = ET.fromstring(body)  # noqa: S314 - our own object store wrote it
    current = (one for one in root.iterfind(f"{_XML}Version") if one.findtext(f"{_XML}IsLatest") == "true")
    page = [_listed(bucket, entry) for entry in current]
    if root.findtext(f"{_XML}IsTruncated") != "true":
        return page, None
    key = unquote_plus(root.findtext(f"{_XML}NextKeyMarker", ""), errors="surrogateescape")
    version_id = root.findtext(f"{_XML}NextVersionIdMarker")
    return page, {"key-marker": key, **({"version-id-marker": version_id} if version_id else {})}


def _listed(bucket: str, entry: ET.Element) -> ObjectInfo:
    fields = {child.tag.removeprefix(_XML): child.text or "" for child in entry}
    described = entry.find(f"{_XML}UserMetadata")
    headers = {} if described is None else {one.tag.removeprefix(_XML).lower(): one.text or "" for one in described}
    version_id = None if (found := fields.get("VersionId")) == "null" else found
    return ObjectInfo(
        ref=ObjectRef(bucket, unquote_plus(fields["Key"], errors="surrogateescape"), version_id),
        etag=fields["ETag"].strip('"'),
        size=int(fields["Size"]),
        last_modified=datetime.fromisoformat(fields["LastModified"]),
        content_type=headers.get("content-type"),
        metadata={name: decode_words(text) for name, text in _own_metadata(headers).items()},
        is_described="content-type" in headers,
    )
