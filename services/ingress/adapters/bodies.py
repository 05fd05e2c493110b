"""Request bodies as they arrive: bounded in size and in time, and forms part by part, without a spool file."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from services.ingress.adapters.least_rate import TOO_SLOW, LeastRate
from services.ingress.core.encoding import text_of
from services.ingress.core.filenames import Disposition, disposition_of
from services.ingress.settings import IngressSettings
from shared.errors import Rejected

MAX_FIELD_BYTES: Final = 64 << 10
MAX_FIELDS_BYTES: Final = 1 << 20
"""Of all plain fields of one form, which are held in memory."""
MAX_NAMES_BYTES: Final = 2 << 20
"""Of the names of all files of one form, likewise."""
PART_OVERHEAD: Final = 64
"""What a field or a file counts for beside its bytes."""
MAX_HEADER_BYTES: Final = 8 << 10


@dataclass(frozen=True, slots=True)
class File:
    """A file of a form whose bytes come next; `filename` is what the client called it, folders included."""

    field: str
    filename: str
    content_type: str | None


@dataclass(frozen=True, slots=True)
class Field:
    """A plain field of a form."""

    name: str
    value: str


class EndedEarly(Rejected):
    """A body is over before it has the bytes that were awaited."""

    def __init__(self, received: int, length: int) -> None:
        super().__init__("BROKEN_BODY", f"the body ended after {received} of {length} bytes")


class Body:
    """The body of one request."""

    def __init__(self, request: Request, settings: IngressSettings, *, length: int | None = None) -> None:
        """Look at the headers alone; with `length` they need not say it.

        Raises Rejected: LENGTH_REQUIRED, TOO_LARGE.
        """
        self._request = request
        self._settings = settings
        self._rate = LeastRate(settings)
        self._received = 0
        self.length = _length(request, settings.max_upload_bytes) if length is None else length

    @property
    def left(self) -> int:
        """How many bytes have not come yet."""
        return self.length - self._received

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the bytes as they come.

        Raises Rejected: STALLED when nothing comes for too long, TOO_SLOW when too little does, BROKEN_BODY when the
        client goes away.
        """
        stream = aiter(self._request.stream())
        while self.left > 0:
            try:
                chunk = await self._next(stream)
            except StopAsyncIteration:
                raise EndedEarly(self._received, self.length) from None
            except ClientDisconnect:
                raise Rejected("BROKEN_BODY", f"the body ended after {self._received} of {self.length} bytes") from None
            self._received += len(chunk)
            if chunk:
                yield chunk

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
        if not self._rate.note(time.monotonic() - began, len(chunk)):
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

    async def whole(self, limit: int) -> bytes:
        """Return all of a body that belongs into memory.

        Raises Rejected: TOO_LARGE past `limit` bytes, and what `chunks` raises.
        """
        if self.length > limit:
            raise _more_than(limit, self.length)
        return b"".join([chunk async for chunk in self.chunks()])

    async def form(self) -> AsyncIterator[File | Field | bytes]:
        """Give a form part by part: a `Field`, or a `File` followed by its bytes.

        Raises Rejected: NO_FORM when the body is none, BROKEN_BODY when it is a bad one, TOO_LARGE for a long field.
        """
        kind, options = parse_options_header(self._request.headers.get("content-type", ""))
        if kind != "multipart/form-data" or not options.get("boundary"):
            raise Rejected("NO_FORM", "the body is no form: send multipart/form-data with a boundary, as curl -F does")
        try:
            with PushMultipartParser(
                options["boundary"],
                content_length=self.length,
                max_header_size=MAX_HEADER_BYTES,
                max_segment_count=self._settings.max_form_parts,
                header_charset="latin-1",  # as bytes: `disposition_of` reads them
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
        """Give the parts that end or go on in `chunk`."""
        for event in self._parser.parse(chunk):
            if isinstance(event, MultipartSegment):
                part = disposition_of(event["Content-Disposition"])
                self._hold_part(part)
                self._field, self._value = part.field if part.filename is None else None, bytearray()
                if part.filename is not None:
                    yield File(part.field, part.filename, event.content_type)
            elif event is None:
                if self._field is not None:
                    yield Field(self._field, text_of(self._value, f"the field {self._field!r}"))
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


async def small_body(request: Request, settings: IngressSettings, limit: int) -> bytes:
    """Return a body that belongs into memory, also one that comes without its length; empty where none comes.

    Raises Rejected: TOO_LARGE past `limit` bytes, STALLED, TOO_SLOW, BROKEN_BODY.
    """
    if "transfer-encoding" not in request.headers:
        return await Body(request, settings).whole(limit) if request.headers.get("content-length") else b""
    body, received = Body(request, settings, length=limit + 1), bytearray()
    try:
        async for chunk in body.chunks():
            received += chunk
    except EndedEarly:
        return bytes(received)
    raise _more_than(limit, len(received))


def _more_than(limit: int, size: int) -> Rejected:
    return Rejected("TOO_LARGE", f"the body has {size} bytes, and {limit} are allowed here: send less")


def _length(request: Request, limit: int) -> int:
    text = request.headers.get("content-length", "")
    if not text.isascii() or not text.isdigit():
        raise Rejected("LENGTH_REQUIRED", "the request has no Content-Length: say how many bytes come")
    if int(text) > limit:
        raise Rejected(
            "TOO_LARGE",
            f"the request has {text} bytes, and {limit} are allowed: send less, or raise PENSTOCK_MAX_UPLOAD_BYTES",
        )
    return int(text)
