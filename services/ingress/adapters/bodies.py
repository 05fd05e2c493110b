"""Request bodies as they arrive: bounded in size and in time, checked, and forms part by part, without a spool file."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Final

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from services.ingress.adapters.http_connections import TRAILERS
from services.ingress.adapters.min_rate import TOO_SLOW, MinRate
from services.ingress.core import checksums
from services.ingress.core.encoding import decode_utf8
from services.ingress.core.filenames import Disposition, parse_disposition
from services.ingress.core.write_headers import header_map
from services.ingress.settings import IngressSettings
from shared.errors import Rejected

MAX_FIELD_BYTES: Final = 64 << 10
MAX_FIELDS_BYTES: Final = 1 << 20
"""Of all plain fields of one form, which are held in memory."""
MAX_NAMES_BYTES: Final = 2 << 20
"""Limit for the names of all files of one form, which are held in memory too."""
PART_OVERHEAD: Final = 64
"""Bytes added per field or file, so that many empty ones count as well."""
MAX_HEADER_BYTES: Final = 8 << 10
LOOK_BYTES: Final = 8 << 20
"""Bytes between two free-space checks while a body of unknown length arrives."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a form, followed by its bytes; `filename` is the client's text, folders included."""

    field: str
    filename: str
    content_type: str | None
    headers: Mapping[str, str] = attribute(default_factory=dict)
    """Of its part of the form, names in lower case."""


@dataclass(frozen=True, slots=True)
class Field:
    """A plain field of a form."""

    name: str
    value: str


class Body:
    """The body of one request, delimited by Content-Length or by chunked encoding."""

    def __init__(self, request: Request, settings: IngressSettings) -> None:
        """Check the headers only.

        Raises Rejected: LENGTH_REQUIRED, TOO_LARGE, BAD_CHECKSUM.
        """
        self._request = request
        self._settings = settings
        self._rate = MinRate(settings)
        self._received = 0
        self._check = checksums.ChecksumVerifier(checksums.parse_content_checksums(header_map(request.headers.raw)))
        self.length = _length(request, settings.max_upload_bytes)
        """Bytes; None for a chunked body."""
        self.when_growing: Callable[[], None] | None = None
        """Called about every 8 MiB while the length is unknown; may raise to refuse the rest."""

    @property
    def left(self) -> int:
        """Return how many bytes are still missing; 0 if the length is unknown."""
        return 0 if self.length is None else self.length - self._received

    @property
    def limit(self) -> int:
        """Return the maximum number of bytes that the body may have."""
        return self._settings.max_upload_bytes if self.length is None else self.length

    @property
    def is_checked(self) -> bool:
        """Whether the client has sent a checksum of it."""
        return bool(self._check.checksums)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they arrive.

        Raises Rejected: STALLED when nothing comes for too long, TOO_SLOW when too little does, BROKEN_BODY when the
        client goes away, TOO_LARGE when more comes than is allowed; HttpProblem (CHECKSUM_MISMATCH) at the end, when
        the bytes are not those that were meant.
        """
        stream = aiter(self._request.stream())
        while self.length is None or self.left > 0:
            try:
                chunk = await self._next(stream)
            except StopAsyncIteration:
                if self.length is None:
                    break
                raise self._broken() from None
            except ClientDisconnect:
                raise self._broken() from None
            self._count(len(chunk))
            if chunk:
                self._check.update(chunk)
                yield chunk
        self._refuse_trailers()
        self._check.verify()

    def _broken(self) -> Rejected:
        known = "" if self.length is None else f" of {self.length}"
        return Rejected("BROKEN_BODY", f"the body ended after {self._received}{known} bytes: send all of it")

    def _count(self, size: int) -> None:
        before, self._received = self._received, self._received + size
        if self.length is None:
            if self._received > self.limit:
                raise _too_large(f"more than {self.limit} bytes", self.limit)
            if self.when_growing and before // LOOK_BYTES != self._received // LOOK_BYTES:
                self.when_growing()

    def _refuse_trailers(self) -> None:
        if trailers := self._request.scope.get(TRAILERS):
            raise Rejected(
                "HEADER_REFUSED", f"{min(trailers)} came behind the body, where it is not read: send it before it"
            )

    async def _next(self, stream: AsyncIterator[bytes]) -> bytes:
        """Return the next bytes; only while they are waited for does time count."""
        waited, left = self._settings.stall_seconds, self._rate.seconds_left
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(waited, left)):
                chunk = await anext(stream)
        except TimeoutError:
            if left < waited:
                raise self._too_slow() from None
            raise Rejected("STALLED", f"nothing came for {waited:g} s: send the body without pauses") from None
        if not self._rate.record(time.monotonic() - began, len(chunk)):
            raise self._too_slow()
        return chunk

    def _too_slow(self) -> Rejected:
        TOO_SLOW.labels("upload").inc()
        least, grace = self._settings.min_rate_bytes, self._settings.min_rate_grace_seconds
        return Rejected(
            "TOO_SLOW",
            f"fewer than {least} bytes a second came, over {grace:g} s (PENSTOCK_MIN_RATE_BYTES): use a faster line, "
            "or send it piece by piece to /tus/",
        )

    async def read_all(self, limit: int) -> bytes:
        """Return all of a body that belongs into memory.

        Raises Rejected: TOO_LARGE past `limit` bytes, and what `chunks` raises.
        """
        if self.length is not None and self.length > limit:
            raise _more_than(limit, self.length)
        received = bytearray()
        async for chunk in self.chunks():
            received += chunk
            if len(received) > limit:
                raise _more_than(limit, len(received))
        return bytes(received)

    async def parts(self) -> AsyncIterator[File | Field | bytes]:
        """Yield the parts of a form: a `Field`, or a `File` followed by its bytes.

        Raises Rejected: NO_FORM when the body is none, BROKEN_BODY when it is a bad one, TOO_LARGE for a long field.
        """
        kind, options = parse_options_header(self._request.headers.get("content-type", ""))
        if kind != "multipart/form-data" or not options.get("boundary"):
            raise Rejected("NO_FORM", "the body is no form: send multipart/form-data with a boundary, as curl -F does")
        try:
            with PushMultipartParser(
                options["boundary"],
                content_length=-1 if self.length is None else self.length,
                max_header_size=MAX_HEADER_BYTES,
                max_segment_count=self._settings.max_form_parts,
                header_charset="latin-1",  # keeps the bytes for `parse_disposition`
            ) as parser:
                reader = _FormReader(parser)
                async for chunk in self.chunks():
                    for part in reader.read(chunk):
                        yield part
        except ParserLimitReached as error:
            raise self._too_large(error) from None
        except MultipartError as error:
            raise Rejected("BROKEN_BODY", f"the form cannot be read: {error}") from None

    def _too_large(self, error: ParserLimitReached) -> Rejected:
        if "segment count" not in str(error):
            return Rejected(
                "TOO_LARGE", f"a part of the form has more headers than a part needs ({error}): shorten them"
            )
        parts = self._settings.max_form_parts
        return Rejected(
            "TOO_LARGE",
            f"the form has more than {parts} files and fields: send fewer, or raise PENSTOCK_MAX_FORM_PARTS",
        )


class _FormReader:
    """Turns a parser's events into parts; the value of a plain field is gathered, a file's bytes are passed on."""

    def __init__(self, parser: PushMultipartParser) -> None:
        self._parser = parser
        self._field: str | None = None
        self._value = bytearray()
        self._fields = 0
        self._names = 0

    def read(self, chunk: bytes) -> Iterator[File | Field | bytes]:
        """Yield the parts that end or continue in `chunk`."""
        for event in self._parser.parse(chunk):
            if isinstance(event, MultipartSegment):
                part = parse_disposition(event["Content-Disposition"])
                self._hold_part(part)
                self._field, self._value = part.field if part.filename is None else None, bytearray()
                if part.filename is not None:
                    yield File(part.field, part.filename, event.content_type, _headers_of(event))
            elif event is None:
                if self._field is not None:
                    yield Field(self._field, decode_utf8(self._value, f"the field {self._field!r}"))
            elif self._field is None:
                yield bytes(event)
            else:
                self._gather(event)

    def _gather(self, piece: bytes | bytearray) -> None:
        self._hold_field(len(piece))
        self._value += piece
        if len(self._value) > MAX_FIELD_BYTES:
            raise Rejected("TOO_LARGE", f"the field {self._field!r} has more than {MAX_FIELD_BYTES} bytes: send a file")

    def _hold_part(self, part: Disposition) -> None:
        if part.filename is None:
            self._hold_field(PART_OVERHEAD + len(part.field))
            return
        self._names += PART_OVERHEAD + len(part.field) + len(part.filename)
        if self._names > MAX_NAMES_BYTES:
            raise Rejected(
                "TOO_LARGE",
                f"the names of the form's files have more than {MAX_NAMES_BYTES} bytes together: "
                "shorten them, or send a set for each folder",
            )

    def _hold_field(self, size: int) -> None:
        self._fields += size
        if self._fields > MAX_FIELDS_BYTES:
            raise Rejected(
                "TOO_LARGE",
                f"the plain fields of the form have more than {MAX_FIELDS_BYTES} bytes together: "
                "send what is long as a file",
            )


def _headers_of(part: MultipartSegment) -> dict[str, str]:
    """Return the other headers of a part, names in lower case."""
    named_texts = ((name.lower(), value) for name, value in part.headerlist)
    return {
        name: decode_utf8(value.encode("latin-1"), f"the header {name} of a part")
        for name, value in named_texts
        if name != "content-disposition"
    }


async def small_body(request: Request, settings: IngressSettings, limit: int) -> bytes:
    """Return a small body in one piece, with or without Content-Length; empty if there is no body.

    Raises Rejected: TOO_LARGE past `limit` bytes, STALLED, TOO_SLOW, BROKEN_BODY.
    """
    return await Body(request, settings).read_all(limit) if has_body(request) else b""


def has_body(request: Request) -> bool:
    """Return whether the request has a body, by Content-Length or Transfer-Encoding."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _more_than(limit: int, size: int) -> Rejected:
    return Rejected("TOO_LARGE", f"the body has {size} bytes or more, and {limit} are allowed here: send less")


def _length(request: Request, limit: int) -> int | None:
    """Return the announced length; None for a chunked body (RFC 9112, section 6)."""
    coding = request.headers.get("transfer-encoding")
    if coding is not None:
        if coding.strip().lower() != "chunked":
            raise Rejected("HEADER_REFUSED", f"Transfer-Encoding is {coding[:40]!r}: send the body chunked and no more")
        return None
    text = request.headers.get("content-length", "")
    if not text.isascii() or not text.isdigit():
        raise Rejected("LENGTH_REQUIRED", "the request has no Content-Length: send it, or the body in chunks")
    if int(text) > limit:
        raise _too_large(f"{text} bytes", limit)
    return int(text)


def _too_large(size: str, limit: int) -> Rejected:
    return Rejected(
        "TOO_LARGE",
        f"the request has {size}, and {limit} are allowed: send less, or raise PENSTOCK_MAX_UPLOAD_BYTES",
    )
