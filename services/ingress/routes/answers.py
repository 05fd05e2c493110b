"""Errors as problems (RFC 9457), whatever route they come from."""

from http import HTTPStatus

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.ingress.core.problems import MEDIA_TYPE, body_of, headers_of, status_of
from shared.errors import PenstockError, Rejected

log = structlog.get_logger()


def install(app: FastAPI) -> None:
    """Let `app` answer every error with a problem."""
    app.add_exception_handler(PenstockError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _told)


async def _told(_request: Request, error: Exception) -> Response:
    status = status_of(error)
    if status >= 500:  # noqa: PLR2004 - the server's own
        log.error("request.failed", exc_info=error)
    return JSONResponse(body_of(error), int(status), headers_of(error), MEDIA_TYPE)


async def _invalid(request: Request, error: Exception) -> Response:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    where = ".".join(str(step) for step in first["loc"])
    return await _told(request, Rejected("BAD_REQUEST", f"{where}: {first['msg']}"))


async def _http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = HTTPStatus(error.status_code).phrase.upper().replace(" ", "_")
    body = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": error.detail,
        "code": code,
    }
    return JSONResponse(body, error.status_code, error.headers, MEDIA_TYPE)
