"""Downloads: stream one version of an object, whole or as a range."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import Buffer

from services.ingress.adapters.permit_pools import limiter
from services.ingress.core.access import Principal
from services.ingress.core.conditions import Validators
from services.ingress.core.disposition import safe_content_type, safe_disposition
from services.ingress.core.names import RESERVED_METADATA
from services.ingress.core.ranges import Range, parse_range
from services.ingress.core.write_headers import FORBIDDEN_CHARS, META_PREFIX
from services.ingress.settings import IngressSettings
from shared.errors import Outage, one_line
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore, ObjectSuperseded

log = structlog.get_logger()

TRIES: Final = 5
CACHING: Final = frozenset({"cache-control", "expires", "vary"})
HARMLESS: Final = {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'; sandbox"}


class Downloads:
    """Stream objects to clients, with a limit on concurrent downloads."""

    def __init__(self, store: ObjectStore, settings: IngressSettings) -> None:
        self._store = store
        self._settings = settings
        self.limiter = limiter("downloads", settings)

    def of(self, ref: ObjectRef, principal: Principal) -> Response:
        """Return the response that sends an object, honoring conditional headers and Range.

        Sending raises what `described` raises, ObjectSuperseded when If-Match names another version, and HttpProblem
        when the range is past the end; all before the first byte.
        """
        return _Download(self, ref, principal)

    async def described(self, ref: ObjectRef, principal: Principal) -> ObjectInfo:
        """Return an object's metadata; raise ObjectGone without a store request if `principal` may not see it."""
        unknown = ObjectGone(f"there is no {ref} that you may see: check its name")
        if not principal.sees(ref.bucket, ref.key):
            raise unknown
        try:
            return await self._store.head(ref)
        except ObjectGone:
            raise unknown from None

    @asynccontextmanager
    async def bytes_of(self, info: ObjectInfo, part: Range) -> AsyncIterator[AsyncIterator[Buffer]]:
        """Open a range of exactly the version that `info` describes, or raise ObjectSuperseded."""
        end = None if part.end == part.size else part.end
        size = self._settings.download_chunk_bytes
        async with self._store.stream(info.ref, etag=info.etag, start=part.start, end=end, chunk_size=size) as chunks:
            yield chunks


class _Download(Response):
    """The response; retries if the object is overwritten between HEAD and GET."""

    def __init__(self, downloads: Downloads, ref: ObjectRef, principal: Principal) -> None:
        super().__init__()
        self._downloads = downloads
        self._ref = ref
        self._who = principal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; HEAD and 304 hold a download permit too, because they query the store."""
        async with self._downloads.limiter.hold():
            await self._send(Request(scope), receive, send)

    async def _send(self, request: Request, receive: Receive, send: Send) -> None:
        for left in reversed(range(TRIES)):
            info = await self._downloads.described(self._ref, self._who)
            try:
                await self._answer(request, info, receive, send)
            except ObjectSuperseded:
                if not left or "if-match" in request.headers:
                    raise
            else:
                return

    async def _answer(self, request: Request, info: ObjectInfo, receive: Receive, send: Send) -> None:
        validators = Validators(info.etag, info.last_modified)
        decision = validators.decide_read(request.headers)
        if decision == "failed":
            raise ObjectSuperseded(f"{info.ref} is another version than the one asked for: look at its ETag")
        if decision == "not_modified":
            cached = {name: text for name, text in _stored_headers(info).items() if name in CACHING}
            await Response(status_code=304, headers=cached | validators.headers)(request.scope, receive, send)
            return
        is_ranged = request.method == "GET" and validators.allow_range(request.headers)  # RFC 9110, section 14.2
        part = parse_range(request.headers.get("range") if is_ranged else None, info.size)
        head = {
            "type": "http.response.start",
            "status": 206 if part else 200,
            "headers": [(name.encode(), value.encode()) for name, value in _headers(info, part).items()],
        }
        if request.method == "HEAD" or not info.size:
            await send(head)
            await send({"type": "http.response.body", "body": b""})
            return
        async with self._downloads.bytes_of(info, part or Range(0, info.size, info.size)) as chunks:
            await unless_gone(self._pass_on(head, chunks, send), receive)

    async def _pass_on(self, head: Mapping[str, object], chunks: AsyncIterator[Buffer], send: Send) -> None:
        """Send head and bytes; where the bytes break off, so does the answer, unfinished."""
        try:
            await send(dict(head))
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except Outage as error:
            log.warning("download.broken", bucket=self._ref.bucket, key=self._ref.key, reason=one_line(error))


def _headers(info: ObjectInfo, part: Range | None) -> dict[str, str]:
    return {
        **_stored_headers(info),
        **Validators(info.etag, info.last_modified).headers,
        **HARMLESS,
        "content-type": safe_content_type(info.content_type),
        "content-disposition": safe_disposition(info.headers.get("content-disposition"), info.ref.key),
        "content-length": str(part.length if part else info.size),
        "accept-ranges": "bytes",
        **({"content-range": part.content_range} if part else {}),
    }


def _stored_headers(info: ObjectInfo) -> dict[str, str]:
    """Return the headers that the uploader stored, without reserved metadata and without unsafe characters."""
    metadata = {f"{META_PREFIX}{name}": text for name, text in info.metadata.items() if name not in RESERVED_METADATA}
    said = {name: text for name, text in {**metadata, **info.headers}.items() if not FORBIDDEN_CHARS.search(text)}
    # a shared cache must not serve one client's object to another
    return {**said, "vary": "authorization, cookie"} if {"cache-control", "expires"} & set(said) else said


async def unless_gone(sending: Awaitable[None], receive: Receive) -> None:
    """Send until done; cancel when the client disconnects."""
    both = asyncio.ensure_future(sending), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in both:
            one.cancel()
        results = await asyncio.gather(*both, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
