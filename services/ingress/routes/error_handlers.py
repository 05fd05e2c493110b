"""Render errors of all routes as problem documents (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingress.core.problems import MEDIA_TYPE, body_of, headers_of, status_of
from services.ingress.routes.rendering import render, wants_page
from shared.errors import PenstockError, Rejected, one_line
from shared.outages import is_outage

log = structlog.get_logger()

EXTRA_MEMBERS: Final[dict[str, Mapping[str, Any]]] = {}
"""By path: extra members of its problems, which clients of the former API read; filled by the routes."""


def register_handlers(app: FastAPI) -> None:
    """Register the handlers that answer every error with a problem."""
    app.add_exception_handler(PenstockError, render_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


class UnhandledErrors:
    """Answer an error that no handler took, and keep the connection open.

    Starlette's own catch-all handler raises the exception again after its answer, and uvicorn then closes the
    connection, which the answer did not announce.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; an answer that has begun cannot be replaced, so its connection ends."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            answer = await render_error(Request(scope, receive), error)
            await answer(scope, receive, send)


async def render_error(request: Request, error: Exception) -> Response:
    """Answer an error with its problem."""
    status = status_of(error)
    # deliberate refusals are counted, not logged, since they may be frequent; known errors need no traceback
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request.failed", exc_info=error)
    elif is_outage(error):
        log.warning("request.failed", reason=one_line(error))
    elif not isinstance(error, PenstockError):
        log.warning("request.refused", exc_info=error)
    return _answer(request, {**body_of(error), **EXTRA_MEMBERS.get(request.url.path, {})}, status, headers_of(error))


async def _invalid(request: Request, error: Exception) -> Response:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    where = ".".join(str(step) for step in first["loc"])
    return await render_error(request, Rejected("BAD_REQUEST", f"{where}: {first['msg']}"))


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.upper().replace(" ", "_")
    is_unsaid = code == "NOT_FOUND" and error.detail == phrase
    body = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": "there is nothing at this address: check it" if is_unsaid else error.detail,
        "code": code,
    }
    return _answer(request, body, error.status_code, error.headers or {})


def _answer(request: Request, body: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    """Render a problem as HTML for browsers, else as a problem document."""
    if wants_page(request) and request.url.path not in EXTRA_MEMBERS:
        return render(request, "problem.html", status=status, headers=headers, problem=body)
    return JSONResponse(body, status, headers, MEDIA_TYPE)
