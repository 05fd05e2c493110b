"""Log a browser in, by a one-time link or by pasting a token, and out."""

import re
from functools import cache
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Request
from markupsafe import escape
from pydantic import BaseModel
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.ingress.adapters.templates import render_template
from services.ingress.core.access import Principal
from services.ingress.core.origins import HOME, safe_next
from services.ingress.dependencies import dependencies_of
from services.ingress.routes.auth_dependencies import Admin, Authenticated, Deps, session_from
from services.ingress.routes.auth_middleware import (
    count_attempt,
    count_failure,
    count_login,
    log_failure,
    refund_attempt,
)
from services.ingress.routes.cookies import cookie_of, no_cookie
from services.ingress.routes.forms import read_form
from services.ingress.routes.rendering import render

log = structlog.get_logger()
router = APIRouter(tags=["login"])

PAGE: Final = "/login"
MAX_FORM_BYTES: Final = 8 << 10
"""Of the form that strangers send."""
CODE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""Form of a code of `Tokens.create_login_link`; other texts cause no database query."""
_NEXT: Final = "\N{NULL}next\N{NULL}"
SPENT: Final = (
    "This link was used before, has expired or is not known. Ask for another with `penstock login`, or paste a token."
)
WRONG: Final = "This token is not known, was revoked or has expired. Paste another one."


class Link(BaseModel):
    """Where a browser is logged in, once, within a quarter of an hour."""

    url: str


@router.post("/login/links", status_code=201)
async def create_link(principal: Admin, deps: Deps) -> Link:
    """Create a one-time link that logs a browser in as the caller."""
    url = deps.settings.http_url.rstrip("/")
    if deps.tokens.is_open:
        return Link(url=f"{url}{HOME}")
    code = await deps.tokens.create_login_link(principal)
    log.info("audit.login_link_created", by=principal.name)
    return Link(url=f"{url}{PAGE}?{urlencode({'code': code})}")


@router.get(PAGE, include_in_schema=False)
async def login_page(request: Request, deps: Deps, code: str = "", next: str = HOME) -> Response:  # noqa: A002
    """Show the login page, or log in by the code of a link."""
    if deps.tokens.is_open:
        return _on_to(next)
    if not code:
        return _page(request, next)
    count_attempt(request)
    async with deps.logins.hold():
        principal = await deps.tokens.redeem(code) if CODE.fullmatch(code) else None
    if principal is None:
        log_failure(request)
        return _page(request, next, SPENT)
    refund_attempt(request)
    return _let_in(request, principal, next)


@router.post(PAGE, include_in_schema=False)
async def log_in(request: Request, deps: Deps) -> Response:
    """Log in by the token that was pasted into the form."""
    async with deps.bodies.hold():
        fields, _ = await read_form(request, MAX_FORM_BYTES)
    back = fields.get("next", HOME)
    if principal := await deps.tokens.authenticate(fields.get("token", "").strip()):
        return _let_in(request, principal, back)
    count_failure(request)
    return _page(request, back, WRONG)


@router.post("/logout", include_in_schema=False)
async def log_out(request: Request, principal: Authenticated, deps: Deps) -> Response:
    """End the session, including copies of its cookie."""
    if session := session_from(request):
        await deps.tokens.end_session(session.id)
        log.info("audit.logged_out", by=principal.name)
    answer = RedirectResponse(PAGE, HTTPStatus.SEE_OTHER)
    answer.headers["set-cookie"] = no_cookie(deps.sessions)
    return answer


def _let_in(request: Request, principal: Principal, back: str) -> Response:
    count_login(request, principal)
    sessions = dependencies_of(request).sessions
    log.info("audit.logged_in", by=principal.name, address=request.client.host if request.client else "?")
    answer = _on_to(back)
    answer.headers["set-cookie"] = cookie_of(sessions, sessions.open_session(principal.id))
    return answer


def _on_to(path: str) -> Response:
    return RedirectResponse(safe_next(path), HTTPStatus.SEE_OTHER, {"cache-control": "no-store"})


def _page(request: Request, back: str, trouble: str = "") -> Response:
    status = HTTPStatus.FORBIDDEN if trouble else HTTPStatus.OK
    if session_from(request) is not None:
        return render(request, "login.html", status=status, next=safe_next(back), trouble=trouble)
    text = _strangers_page(trouble).replace(_NEXT, str(escape(safe_next(back))))
    return HTMLResponse(text, status, {"cache-control": "no-store"})


@cache
def _strangers_page(trouble: str) -> str:
    """Return the login page for clients without a session, rendered once."""
    return render_template(
        "login.html",
        path=PAGE,
        csrf="",
        principal=None,
        may_write=False,
        may_read=False,
        navigation=(),
        next=_NEXT,
        trouble=trouble,
    )
