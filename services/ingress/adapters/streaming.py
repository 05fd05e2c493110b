"""Streamed responses of any size: produced while sent, stopped when the client disconnects."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.ingress.adapters.downloads import unless_gone
from shared.errors import one_line
from shared.outages import is_outage

log = structlog.get_logger()

Put = Callable[[bytes], Coroutine[Any, Any, None]]
"""Send bytes and wait until there is room for more."""


@dataclass(frozen=True, slots=True)
class Content:
    """Headers of a response, and the function that writes its body."""

    headers: Mapping[str, str]
    write: Callable[[Put], Awaitable[None]]


class Streamed(Response):
    """A streamed response.

    An error before the first byte becomes a problem document, a later one aborts the connection.
    """

    def __init__(self, content: AbstractAsyncContextManager[Content]) -> None:
        super().__init__()
        self._content = content

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with self._content as content:
            await unless_gone(_Sending(content, send).all(), receive)


class _Sending:
    """One answer on its way."""

    def __init__(self, content: Content, send: Send) -> None:
        self._content = content
        self._send = send
        self._has_begun = False

    async def all(self) -> None:
        try:
            await self._content.write(self._put)
            await self._begin()
            await self._send({"type": "http.response.body", "body": b""})
        except Exception as error:
            if not (self._has_begun and is_outage(error)):
                raise
            log.warning("stream.broken", reason=one_line(error))

    async def _put(self, piece: bytes) -> None:
        await self._begin()
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            headers = [(name.encode(), value.encode("latin-1")) for name, value in self._content.headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
