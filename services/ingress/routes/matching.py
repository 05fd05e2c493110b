"""Route matching: either spelling of a trailing slash, HEAD wherever GET is, and a complete `Allow`.

Starlette's slash redirect uses the client's Host header for an absolute URL; and its 405 lists only the
methods of the first route of a path.
"""

import asyncio
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SPELLED: Final = "penstock.other_spelling"


def install(app: FastAPI) -> None:
    """Retry route matching with the other spelling before answering 404 or 405."""
    not_found, routed = app.router.default, app.router.middleware_stack

    async def other_spelling(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _SPELLED in scope:
            await not_found(scope, receive, send)
            return
        # change the scope itself: outer middleware reads the route from it
        scope.update({"path": _respelled(scope["path"]), _SPELLED: True})
        await app.router(scope, receive, send)

    async def other_method(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD" and scope["path"].endswith("/"):
            # a page or a listing: HEAD of a file would match with an empty name
            await _as_get(routed)(scope, receive, send)
            return
        try:
            await routed(scope, receive, send)
        except HTTPException as error:  # raised by the router; routes answer their own
            if scope["type"] != "http" or error.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
                raise
            path, methods = _another(app, scope)
            if path is None:
                headers = {"allow": ", ".join(sorted(methods))}
                raise HTTPException(error.status_code, headers=headers) from None
            scope.update({"path": path, _SPELLED: True})
            await (routed if scope["method"] in methods else _as_get(routed))(scope, receive, send)

    app.router.default = other_spelling
    app.router.middleware_stack = other_method


def _another(app: FastAPI, scope: Scope) -> tuple[str | None, set[str]]:
    """Return the spelling of a path by which the method is taken, None where none is, and the methods that are."""
    found: set[str] = set()
    for path in (scope["path"], _respelled(scope["path"])):
        methods = {method for method in METHODS if _is_taken(app, {**scope, "path": path, "method": method})}
        if scope["method"] in methods or (scope["method"] == "HEAD" and "GET" in methods):
            return path, methods
        found |= methods
    return None, found | ({"HEAD"} if "GET" in found else set())


def _is_taken(app: FastAPI, scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)


def _respelled(path: str) -> str:
    return path.rstrip("/") if path.endswith("/") else f"{path}/"


def _as_get(app: ASGIApp) -> ASGIApp:
    """Answer HEAD with the headers of GET; a streamed body is cut off as if the client had disconnected."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = asyncio.Event()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                has_begun.set()

        async def receiving() -> Message:
            if has_begun.is_set():
                return {"type": "http.disconnect"}
            reading = asyncio.ensure_future(receive())
            begun = asyncio.ensure_future(has_begun.wait())
            try:
                await asyncio.wait((reading, begun), return_when=asyncio.FIRST_COMPLETED)
                return {"type": "http.disconnect"} if has_begun.is_set() else reading.result()
            finally:
                for one in (reading, begun):
                    one.cancel()

        asked = {**scope, "method": "GET"}
        try:
            await app(asked, receiving, sending)
        finally:
            scope.update({"route": asked.get("route")} if "route" in asked else {})

    return answered
