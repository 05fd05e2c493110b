"""The store that services use: plain S3 over one HTTP session; why no client library: docs/adr/0001.

Keys travel as they are, so none is altered. One GET brings bytes, metadata and the checksums that the store keeps.
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
"""Seconds to connect and between two reads: a stalled body ends, a large one does not."""
_NETWORK: Final = (aiohttp.ClientError, OSError, TimeoutError)
_UNSENDABLE: Final = re.compile("[\x00\r\n]")
"""In a header these would end it."""
ANSWER_SECONDS: Final = 5.0
_META: Final = "x-amz-meta-"
_CHECKSUM: Final = "x-amz-checksum-"
_CHECKSUMS: Final = ("sha256", "sha1", "crc32", "crc32c", "crc64nvme")
_ASK_CHECKSUMS: Final = {"x-amz-checksum-mode": "ENABLED"}
_ERROR_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")
_XML: Final = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_ERROR_BYTES: Final = 4096
_OK: Final = 300
_CONTROL: Final = {"location": ""}
"""https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html"""
# objects are looked at in the order they came, and those of one second share a date
_date = lru_cache(maxsize=256)(parsedate_to_datetime)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator["S3"]:
    """Open the object store of `settings`; no request is sent before the first operation."""
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
        """Raise Outage while the store serves nobody; an answer of any other kind means that it serves.

        Nothing in the request comes from a record, so a failure says nothing about any object.
        """
        ref = ObjectRef(self._settings.input_buckets[0], "")
        with self._sorted("look at", ref):
            async with asyncio.timeout(ANSWER_SECONDS), self._send("GET", ref, query=_CONTROL) as response:
                failure = await self._failure("look at", ref, response)
        if response.status >= _OK and kind_of(meaning := failure.to_error(self._settings)) is Kind.OUTAGE:
            raise meaning

    async def _credentials_work(self) -> bool:
        try:
            await self.check()
        except Outage:
            return False
        return True

    async def head(self, ref: ObjectRef) -> ObjectInfo:
        """Describe an object, checksums included."""
        with self._sorted("look at", ref):
            async with self._send("HEAD", ref, headers=_ASK_CHECKSUMS) as response:
                if response.status < _OK:
                    return _info(ref, response)
            # an answer to HEAD has no body and so no reason; that to GET has one
            async with self._request("look at", "GET", ref, headers=_ASK_CHECKSUMS) as response:
                return _info(ref, response)

    async def read(
        self, ref: ObjectRef, *, etag: str | None = None, limit: int | None = None, end: int | None = None
    ) -> tuple[ObjectInfo, bytes]:
        """Read a whole small object, or its beginning, checksums included."""
        with self._sorted("read", ref):
            span = {"range": f"bytes=0-{end - 1}"} if end is not None else {}
            headers = {**_ASK_CHECKSUMS, **_condition(etag), **span}
            async with self._request("read", "GET", ref, headers=headers) as response:
                info = _info(ref, response)
                if limit is not None and info.size > limit:
                    raise Rejected("SIZE_DIFFERS", f"{ref} has {info.size} bytes, and not {limit} as was announced")
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
        """Read bytes `start` to `end`; a chunk exceeds `chunk_size` by up to 256 KiB, the last may be less."""
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"an empty range: {start} to {end}")
        span = {"range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        async with AsyncExitStack() as stack:
            with self._sorted("read", ref):
                asked = self._request("read", "GET", ref, headers={**_condition(etag), **span})
                response = await stack.enter_async_context(asked)
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
        asked = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "start-after": start_after}
        asked |= {"metadata": "true"} if described else {}
        async for page in self._pages(bucket, {**asked, "max-keys": str(page_size)}, _page):
            yield page

    async def list_versions(
        self, bucket: str, *, prefix: str = "", page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List current objects with their version ids; a page holds up to `page_size` versions, so fewer objects.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
        """
        asked = {"versions": "", "encoding-type": "url", "prefix": prefix, "max-keys": str(page_size)}
        async for page in self._pages(bucket, {**asked, "metadata": "true"}, _version_page):
            yield page

    async def _pages(
        self, bucket: str, asked: dict[str, str], read: Callable[[str, bytes], "_Page"]
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Ask for page after page; `read` gives each with what to ask for the next one, None after the last."""
        more: Mapping[str, str] | None = {}
        while more is not None:
            _, body = await self.request("list", "GET", ObjectRef(bucket, ""), query={**asked, **more})
            try:
                page, more = read(bucket, body)
            except ET.ParseError:
                if asked.pop("metadata", None) is None:
                    raise
                continue  # MinIO makes tags of metadata names, also of those that no XML takes
            yield page

    async def has_versions(self, bucket: str) -> bool:
        """Ask whether a bucket keeps versions, or did before that was suspended.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html
        """
        try:
            _, body = await self.request("look at", "GET", ObjectRef(bucket, ""), query={"versioning": ""})
        except Rejected:  # a store without versions, or a user who may not ask
            return False
        # MinIO answers with the namespace that it was set with, or without one
        return ET.fromstring(body).findtext("{*}Status") in {"Enabled", "Suspended"}  # noqa: S314 - as in `_page`

    async def put(
        self,
        ref: ObjectRef,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        """Store a small output."""
        return await self.put_with_headers(ref, body, _headers(metadata, content_type))

    async def put_with_headers(self, ref: ObjectRef, body: bytes, headers: Mapping[str, str]) -> ObjectInfo:
        """Store a small output with these headers, names in lower case."""
        answer, _ = await self.request("write", "PUT", ref, headers=headers, body=body)
        return self.describe_stored(ref, answer, answer["ETag"], len(body), headers)

    @staticmethod
    def describe_stored(
        ref: ObjectRef, answer: Mapping[str, str], etag: str, size: int, headers: Mapping[str, str]
    ) -> ObjectInfo:
        """Describe what was stored just now with these headers; its time is this machine's clock."""
        return ObjectInfo(
            ref=ObjectRef(ref.bucket, ref.key, _version(answer)),
            etag=etag.strip('"'),
            size=size,
            last_modified=datetime.now(UTC),
            content_type=headers.get("content-type"),
            metadata=_own_metadata(headers),
            headers=_kept(headers),
        )

    @asynccontextmanager
    async def write(  # noqa: PLR0913 - what may be said of an object
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
        """Write an object of unknown size, whole or not at all."""
        sent = {**(headers or {}), **_headers(metadata, content_type), **precondition_headers(if_match)}
        writer = Writer(self, ref, headers=sent, limit=limit, journal=self._journal, keep_checksum=keep_checksum)
        try:
            yield writer
            await writer.finish()
        except BaseException:
            # whoever is cancelled is not spared the tidying
            await asyncio.shield(writer.abort())
            raise

    @asynccontextmanager
    async def begin_upload(self, ref: ObjectRef, headers: Mapping[str, str]) -> AsyncIterator[str]:
        """Begin an upload that will outlive this process, and give its id; when the block fails, the upload goes."""
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
        """Send one request; return the headers and the body of its answer."""
        with self._sorted(action, ref):
            async with self._request(action, method, ref, **sent) as response:
                body = await response.read()
                # a request that takes long answers 200 at once, and says its error in the body
                if code := error_in(body):
                    raise Failure(action, ref, 500, code).to_error(self._settings)
                return response.headers, body

    async def copy(self, source: ObjectRef, ref: ObjectRef) -> None:
        """Copy an object of up to 5 GiB inside the store, with what is known of it."""
        await self.request("copy", "PUT", ref, headers={"x-amz-copy-source": path_of(source.bucket, source.key)})

    async def abort_abandoned(self, in_doubt: Callable[[ObjectRef], Awaitable[object]]) -> int:
        """Remove what this process could not, and what killed ones of this state folder left; count the uploads.

        `in_doubt` hears of each that may have been completed: MinIO stores an object without a notification when
        whoever completes it hangs up in that moment.
        """
        removed = 0
        for left, forget in self._journal.abandoned():
            for one in left:
                removed += await self.uploads.abort_abandoned(one)
                if one.is_in_doubt:
                    await in_doubt(one.ref)
            forget()
        return removed

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> None:
        """Remove an object or a version."""
        await self.request("delete", "DELETE", ref, headers=precondition_headers(if_match))

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove many objects, up to 1,000 by one request."""
        plain = [key for key in keys if removal.fits_into_xml(key)]
        alone = [key for key in keys if not removal.fits_into_xml(key)]
        for start in range(0, len(plain), PAGE_SIZE):
            headers, body = removal.request_of(plain[start : start + PAGE_SIZE])
            ref = ObjectRef(bucket, "")
            with self._sorted("delete from", ref):
                sent = self._request("delete from", "POST", ref, query={"delete": ""}, headers=headers, body=body)
                async with sent as response:
                    alone += removal.failed_in(await response.read())
        for key in alone:  # the answer for one object says what is wrong with it
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
            path, asked = path_of(ref.bucket, ref.key), query_of({**(query or {}), **version})
        except UnicodeEncodeError as error:
            raise _unsendable(ref) from error
        known = body if isinstance(body, bytes) else None
        signed = self._signer.sign(method, self._host, path, asked, headers or {}, known)
        url = URL(f"{self._settings.s3_endpoint.rstrip('/')}{path}{'?' if asked else ''}{asked}", encoded=True)
        return self._session.request(
            method,
            url,
            headers=signed,
            data=body if known is None else BytesIO(known) if known else None,
            allow_redirects=False,
        )

    @asynccontextmanager
    async def _request(
        self, action: str, method: str, ref: ObjectRef, **sent: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        is_repeatable = isinstance(sent.get("body", b""), bytes)
        begun = time.monotonic()
        async with self._send(method, ref, **sent) as response:
            if response.status < _OK:
                yield response
                return
            failure = await self._failure(action, ref, response)
        if not failure.is_about_credentials or not await self._credentials.works(begun):
            raise failure.to_error(self._settings)
        if is_repeatable:  # the credentials may have become valid between the two requests
            async with self._send(method, ref, **sent) as response:
                if response.status < _OK:
                    yield response
                    return
                failure = await self._failure(action, ref, response)
        raise failure.to_error(self._settings, credentials_work=True)

    @staticmethod
    async def _failure(action: str, ref: ObjectRef, response: aiohttp.ClientResponse) -> Failure:
        said = _ERROR_CODE.search(await response.content.read(_ERROR_BYTES))
        return Failure(action, ref, response.status, said[1].decode() if said else "")

    async def _chunks(self, ref: ObjectRef, response: aiohttp.ClientResponse, chunk_size: int) -> AsyncIterator[bytes]:
        with self._sorted("read", ref):
            pieces: list[bytes] = []
            held = 0
            # `readexactly` copies every byte twice, and its memory goes back to the system with each chunk
            async for piece, _ in response.content.iter_chunks():
                pieces.append(piece)
                held += len(piece)
                if held >= chunk_size:
                    chunk, pieces, held = b"".join(pieces), [], 0
                    yield chunk
            if pieces:
                yield b"".join(pieces)

    @contextmanager
    def _sorted(self, action: str, ref: ObjectRef) -> Iterator[None]:
        try:
            yield
        except aiohttp.InvalidURL as error:
            raise _unsendable(ref) from error
        except _NETWORK as error:
            reason = tls.describe_failure(error) or f"connection failed ({type(error).__name__})"
            raise Failure(action, ref, None, detail=reason).to_error(self._settings) from error


def _unsendable(ref: ObjectRef) -> Rejected:
    return Rejected("S3_REFUSED", f"the names in a request for {ref} fit into no URL or header: rename it")


def _headers(metadata: Mapping[str, str] | None, content_type: str | None) -> dict[str, str]:
    own = {f"{_META}{name}": value for name, value in (metadata or {}).items()}
    return own | ({"content-type": content_type} if content_type else {})


def precondition_headers(if_match: str | None) -> dict[str, str]:
    """Return the header by which S3 writes over the version of this etag alone, over PRESENT or over ABSENT."""
    if if_match in {PRESENT, ABSENT}:
        return {"if-match" if if_match == PRESENT else "if-none-match": "*"}
    return _condition(if_match)


def _condition(etag: str | None) -> dict[str, str]:
    return {"if-match": f'"{etag}"'} if etag else {}


def _version(headers: Mapping[str, str]) -> str | None:
    told = headers.get("x-amz-version-id")
    return None if told == "null" else told


def _info(ref: ObjectRef, response: aiohttp.ClientResponse) -> ObjectInfo:
    headers = response.headers
    return ObjectInfo(
        ref=ObjectRef(ref.bucket, ref.key, _version(response.headers)),
        etag=headers["ETag"].strip('"'),
        size=_whole_size(headers),
        last_modified=_date(headers["Last-Modified"]),
        content_type=None if (said := headers.get("Content-Type")) is None else _text(said),
        metadata={name: decode_words(_text(value)) for name, value in _own_metadata(headers).items()},
        headers={name: _text(value) for name, value in _kept(headers).items()},
        checksums=_whole_checksums(headers),
    )


def _whole_size(headers: Mapping[str, str]) -> int:
    """Return the object's size, also where only a range of it is answered."""
    return int(headers.get("Content-Range", headers["Content-Length"]).rpartition("/")[2])


def _text(header: str) -> str:
    """Return a header's value as text, with U+FFFD where it is no UTF-8."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _own_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    named = ((name.lower(), value) for name, value in headers.items())
    return {name.removeprefix(_META): value for name, value in named if name.startswith(_META)}


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in STORED_HEADERS if name in headers}


def _whole_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Give in hex the checksums that cover the object's bytes; one over checksums of parts ends in `-N`."""
    if headers.get(f"{_CHECKSUM}type") == "COMPOSITE":
        return {}
    told = ((name, headers.get(f"{_CHECKSUM}{name}")) for name in _CHECKSUMS)
    return {name: base64.b64decode(value).hex() for name, value in told if value and "-" not in value}


_Page = tuple[list[ObjectInfo], Mapping[str, str] | None]


def _page(bucket: str, body: bytes) -> _Page:
    """Read one page of a listing, and where the next page begins."""
    root = ET.fromstring(body)  # noqa: S314 - our own object store wrote it
    page = [_listed(bucket, entry) for entry in root.iterfind(f"{_XML}Contents")]
    token = root.findtext(f"{_XML}NextContinuationToken")
    return page, None if token is None else {"continuation-token": token}


def _version_page(bucket: str, body: bytes) -> _Page:
    """Read one page of a listing of versions: what is current, and where the next page begins."""
    root = ET.fromstring(body)  # noqa: S314 - our own object store wrote it
    current = (one for one in root.iterfind(f"{_XML}Version") if one.findtext(f"{_XML}IsLatest") == "true")
    page = [_listed(bucket, entry) for entry in current]
    if root.findtext(f"{_XML}IsTruncated") != "true":
        return page, None
    key = unquote_plus(root.findtext(f"{_XML}NextKeyMarker", ""), errors="surrogateescape")
    version_id = root.findtext(f"{_XML}NextVersionIdMarker")
    return page, {"key-marker": key, **({"version-id-marker": version_id} if version_id else {})}


def _listed(bucket: str, entry: ET.Element) -> ObjectInfo:
    said = {child.tag.removeprefix(_XML): child.text or "" for child in entry}
    described = entry.find(f"{_XML}UserMetadata")
    headers = {} if described is None else {one.tag.removeprefix(_XML).lower(): one.text or "" for one in described}
    version_id = None if (told := said.get("VersionId")) == "null" else told
    return ObjectInfo(
        ref=ObjectRef(bucket, unquote_plus(said["Key"], errors="surrogateescape"), version_id),
        etag=said["ETag"].strip('"'),
        size=int(said["Size"]),
        last_modified=datetime.fromisoformat(said["LastModified"]),
        content_type=headers.get("content-type"),
        metadata={name: decode_words(text) for name, text in _own_metadata(headers).items()},
        is_described="content-type" in headers,
    )
