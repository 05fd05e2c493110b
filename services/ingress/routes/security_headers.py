"""Security headers for browsers: CSP, no framing, no content sniffing."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingress.dependencies import dependencies_of

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' {store}; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Connections to the object store are those of large uploads, which go there directly."""


class SecurityHeaders:
    """Add the headers to every response; headers set by a route stay."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = _headers_for(dependencies_of(HTTPConnection(scope)).settings.store_url)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in added.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)


@lru_cache(maxsize=8)
def _headers_for(store: str) -> Mapping[str, str]:
    return {
        "content-security-policy": CONTENT_POLICY.format(store=store),
        "x-content-type-options": "nosniff",
        # with `no-referrer` browsers send `Origin: null` for our own forms too, indistinguishable from others
        "referrer-policy": "same-origin",
        "x-frame-options": "DENY",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "cross-origin-opener-policy": "same-origin",
    }
