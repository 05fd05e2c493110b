"""Facts as they happen: server-sent events, resumed where a client left off."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.ingress.adapters.feed import Feed
from services.ingress.core.fact_filter import FactFilter, is_visible_to, parse_types
from services.ingress.core.fact_rendering import render_heartbeat, render_sse_event
from services.ingress.core.facts import Fact
from services.ingress.routes.auth_dependencies import Deps, Reader, authenticate
from shared.errors import PenstockError, Rejected
from shared.outages import is_outage

router = APIRouter(tags=["facts"])

HEARTBEAT_SECONDS: Final = 15.0
OUTAGE_POLL_SECONDS: Final = 1.0
RETRY_MS: Final = 2000
DIGITS: Final = 18
HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


class EventStream(Response):
    """An event stream that ends when its client disconnects; its permit is acquired before the response starts."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, after: int | None, is_shown: Callable[[Fact], bool], request: Request) -> None:
        super().__init__()
        self._feed = feed
        self._after = after
        self._is_shown = is_shown
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until one side ends it."""
        async with self._feed.following():
            cursor = await self._feed.start_cursor(self._after)
            frames = _Stream(self._feed, cursor, self._is_shown, self._request).frames()
            async with aclosing(frames):
                await StreamingResponse(frames, headers=HEADERS, media_type=self.media_type)(scope, receive, send)


@router.get("/events", status_code=200, response_class=EventStream)
async def events(  # noqa: PLR0913, PLR0917 - the query parameters
    request: Request,
    principal: Reader,
    deps: Deps,
    bucket: str = "",
    prefix: str = "",
    types: Annotated[list[str] | None, Query(alias="type", description="Names or patterns: objects.*")] = None,
    correlation_id: str = "",
    last_event_id: Annotated[str, Query(description="As the header Last-Event-ID, which wins.")] = "",
) -> EventStream:
    """Stream facts as they happen, from now on or after the last event id."""
    fact_filter = FactFilter(parse_types(types or ()), bucket, prefix, correlation_id)
    after = _event_id(request.headers.get("last-event-id") or last_event_id)

    def is_shown(fact: Fact) -> bool:
        return fact_filter.matches(fact) and is_visible_to(principal, fact)

    return EventStream(deps.feed, after, is_shown, request)


class _Stream:
    """One client's stream and its cursor."""

    def __init__(self, feed: Feed, cursor: int, is_shown: Callable[[Fact], bool], request: Request) -> None:
        self._feed = feed
        self._cursor = cursor
        self._is_shown = is_shown
        self._request = request
        self._beat_at = time.monotonic()

    async def frames(self) -> AsyncGenerator[str]:
        """Yield frames until the service stops or the client's authorization ends."""
        yield f"retry: {RETRY_MS}\n{render_heartbeat(self._cursor)}"
        while not self._feed.is_closed:
            changed = self._feed.next_change()
            page, pause = await self._page()
            if not await self._is_still_authorized():
                return
            if shown := "".join(render_sse_event(fact) for fact in page if self._is_shown(fact)):
                yield shown
            if self._heartbeat_due():
                yield render_heartbeat(self._cursor)
            if not page:
                await _wait(changed, pause)

    async def _page(self) -> tuple[list[Fact], float]:
        """Return the next facts, and how long to wait if there are none."""
        try:
            page = list(await self._feed.page(self._cursor))
        except Exception as error:
            if not is_outage(error):
                raise
            return [], OUTAGE_POLL_SECONDS
        self._cursor = page[-1].seq if page else self._cursor
        return page, max(0.0, self._beat_at + HEARTBEAT_SECONDS - time.monotonic())

    def _heartbeat_due(self) -> bool:
        if time.monotonic() < self._beat_at + HEARTBEAT_SECONDS:
            return False
        self._beat_at = time.monotonic()
        return True

    async def _is_still_authorized(self) -> bool:
        """Return whether the token or session still holds; checked before each frame, and whenever one has ended."""
        try:
            await authenticate(self._request)
        except PenstockError as error:
            return is_outage(error)
        return True


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()


def _event_id(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise Rejected("BAD_EVENT_ID", "Last-Event-ID is the id of an event: leave it out to begin with the next one")
    return int(text) if text else None
