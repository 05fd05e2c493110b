"""Log a browser in, by a one-time link or by pasting a token, and out."""

from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import RedirectResponse, Response

from services.ingress.core.access import Principal
from services.ingress.core.origins import HOME, safe_next
from services.ingress.doors import doors
from services.ingress.routes.cookies import cookie_of, no_cookie
from services.ingress.routes.forms import read_form
from services.ingress.routes.gate import count_failure
from services.ingress.routes.guard import Admin, Anybody, Through, session_in
from services.ingress.routes.rendering import render

log = structlog.get_logger()
router = APIRouter(tags=["login"])

PAGE: Final = "/login"
SPENT: Final = (
    "This link was used before, has expired or is not known. Ask for another with `penstock login`, or paste a token."
)
WRONG: Final = "This token is not known, was revoked or has expired. Paste another one."


class Link(BaseModel):
    """Where a browser is logged in, once, within a quarter of an hour."""

    url: str


@router.post("/login/links", status_code=201)
async def create_link(who: Admin, through: Through) -> Link:
    """Make a link that logs one browser in as whoever asks."""
    url = through.settings.http_url.rstrip("/")
    if through.tokens.is_open:
        return Link(url=f"{url}{HOME}")
    code = await through.tokens.link(who)
    log.info("audit.login_link_created", by=who.name)
    return Link(url=f"{url}{PAGE}?{urlencode({'code': code})}")


@router.get(PAGE, include_in_schema=False)
async def login_page(request: Request, through: Through, code: str = "", next: str = HOME) -> Response:  # noqa: A002
    """Show the login page, or log in by the code of a link."""
    if through.tokens.is_open:
        return _on_to(next)
    if not code:
        return _page(request, next)
    if who := await through.tokens.redeem(code):
        return _let_in(request, who, next)
    count_failure(request)
    return _page(request, next, SPENT)


@router.post(PAGE, include_in_schema=False)
async def log_in(request: Request, through: Through) -> Response:
    """Log in by the token that was pasted into the form."""
    fields, _ = await read_form(request)
    back = fields.get("next", HOME)
    if who := await through.tokens.authenticate(fields.get("token", "").strip()):
        return _let_in(request, who, back)
    count_failure(request)
    return _page(request, back, WRONG)


@router.post("/logout", include_in_schema=False)
async def log_out(request: Request, who: Anybody, through: Through) -> Response:
    """End the session, here and for whoever has a copy of its cookie."""
    if session := session_in(request):
        await through.tokens.end_session(session.id)
        log.info("audit.logged_out", by=who.name)
    answer = RedirectResponse(PAGE, HTTPStatus.SEE_OTHER)
    answer.headers["set-cookie"] = no_cookie(through.sessions)
    return answer


def _let_in(request: Request, who: Principal, back: str) -> Response:
    sessions = doors(request).sessions
    log.info("audit.logged_in", by=who.name, address=request.client.host if request.client else "?")
    answer = _on_to(back)
    answer.headers["set-cookie"] = cookie_of(sessions, sessions.opened(who.id))
    return answer


def _on_to(path: str) -> Response:
    return RedirectResponse(safe_next(path), HTTPStatus.SEE_OTHER, {"cache-control": "no-store"})


def _page(request: Request, back: str, trouble: str = "") -> Response:
    status = HTTPStatus.FORBIDDEN if trouble else HTTPStatus.OK
    return render(request, "login.html", status=status, next=safe_next(back), trouble=trouble)
