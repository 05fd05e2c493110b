"""Auth middleware: runs before routing; every path but the public ones needs a principal."""

import math
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlencode

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from services.ingress.adapters.limiter import CLIENT
from services.ingress.core.access import ANONYMOUS, Principal
from services.ingress.core.encoding import require_utf8
from services.ingress.core.origins import SAFE_METHODS, host_of, is_browser, is_cross_site, is_own_host
from services.ingress.core.problems import HttpProblem
from services.ingress.core.sessions import Session
from services.ingress.dependencies import dependencies_of
from services.ingress.routes import error_handlers
from services.ingress.routes.auth_dependencies import (
    anonymous_principal,
    authenticate,
    bad_token,
    is_basic,
    session_from,
    token_from,
)
from services.ingress.routes.cookies import cookie_of
from services.ingress.routes.forms import is_small_form, read_form
from shared.errors import PenstockError, Rejected

log = structlog.get_logger()

PUBLIC_PATHS: Final = frozenset({"/health", "/metrics", "/login"})
PUBLIC_PREFIXES: Final = ("/health/", "/static/")
FAILURES_PER_SECOND: Final = 1.0
FAILURES_AT_ONCE: Final = 30.0


class AuthMiddleware:
    """Authenticate each request, apply rate limits, and bind the principal to the log context."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            receive = await self._authenticate(request)
        except PenstockError as error:
            answer = _login_page(request, error) or await error_handlers.render_error(request, error)
            await answer(scope, receive, send)
            return
        principal: Principal | None = scope["state"].get("principal")
        reset_token = CLIENT.set(client_of(request, principal))
        try:
            with bound_contextvars(**({"by": principal.name} if principal else {})):
                await self._app(scope, receive, _renewing_cookie(request, send))
        finally:
            CLIENT.reset(reset_token)

    async def _authenticate(self, request: Request) -> Receive:
        request.scope.setdefault("state", {})
        require_utf8(request.scope.get("raw_path") or b"", request.scope["query_string"])
        _refuse_cross_site(request)
        if is_public_path(request.url.path):
            return request.receive
        try:
            principal = await authenticate(request)
        except HttpProblem as problem:
            if problem.code == "BAD_TOKEN":
                count_failure(request)
            if problem.code != "NO_TOKEN" or (anonymous_reader := anonymous_principal(request)) is None:
                raise
            principal = anonymous_reader
        request.state.principal = principal
        _count_request(request, principal)
        session = session_from(request)
        receive = _end_with_token(request, principal)
        if session is None or request.method in SAFE_METHODS or dependencies_of(request).tokens.is_open:
            return receive
        return await _require_csrf(request, session, receive)


def is_public_path(path: str) -> bool:
    """Return whether a path needs no authentication."""
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES)


def client_of(request: Request, principal: Principal | None) -> str:
    """Return the client that limits count: a token, or without authentication the address of the request."""
    is_known = principal is not None and principal.id != ANONYMOUS and not dependencies_of(request).tokens.is_open
    return principal.id if principal and is_known else address_of(request)


def address_of(request: Request) -> str:
    """Return the client address of a request, as limits count it."""
    return f"address {request.client.host if request.client else '?'}"


def count_failure(request: Request) -> None:
    """Count and log a failed authentication; too many from one address get 429.

    Raises HttpProblem: TOO_MANY_REQUESTS.
    """
    count_attempt(request)
    log_failure(request)


def count_attempt(request: Request) -> None:
    """Count an attempt before it is verified, where verification costs a query.

    Raises HttpProblem: TOO_MANY_REQUESTS.
    """
    _limit_rate(request, address_of(request), FAILURES_PER_SECOND, FAILURES_AT_ONCE)


def refund_attempt(request: Request) -> None:
    """Take back what `count_attempt` counted: the secret was right."""
    dependencies_of(request).rate_limiter.refund(address_of(request))


def count_login(request: Request, principal: Principal) -> None:
    """Count a session of a token; each may be ended, and is remembered until its cookie would have expired.

    Raises Problem: TOO_MANY_REQUESTS.
    """
    _limit_rate(request, f"login {principal.id}", FAILURES_PER_SECOND, FAILURES_AT_ONCE)


def log_failure(request: Request) -> None:
    """Log a wrong secret."""
    log.warning(
        "audit.login_failed", by="?", address=request.client.host if request.client else "?", path=request.url.path
    )


def _count_request(request: Request, principal: Principal) -> None:
    """Count a request of a token, and of its ancestors with a rate of their own."""
    if not dependencies_of(request).tokens.is_open:
        rate = principal.rate or dependencies_of(request).settings.rate_limit
        own = principal.id if principal.id != ANONYMOUS else f"{ANONYMOUS} {address_of(request)}"
        for token_id, limit in ((own, rate), *principal.rates):
            _limit_rate(request, f"principal {token_id}", limit, limit)


def _limit_rate(request: Request, bucket: str, rate: float, burst: float) -> None:
    if wait := dependencies_of(request).rate_limiter.acquire(bucket, rate, burst):
        raise HttpProblem(
            "TOO_MANY_REQUESTS",
            f"more than {rate:g} requests a second: come again in {wait:.1f} s",
            headers={"retry-after": str(max(1, math.ceil(wait)))},
        )


def _refuse_cross_site(request: Request) -> None:
    """Refuse cross-site requests of browsers, and Host headers with a foreign name."""
    dependencies = dependencies_of(request)
    own = host_of(dependencies.settings.http_url)
    host = request.headers.get("host", "")
    if dependencies.tokens.is_open and not is_own_host(host, own):
        raise Rejected("WRONG_HOST", "with PENSTOCK_AUTH=none requests come to localhost or to PENSTOCK_HTTP_URL")
    if request.method in SAFE_METHODS:
        return
    if is_basic(request) and is_browser(request.headers):
        raise Rejected(
            "CROSS_SITE", "a browser sent Basic credentials, which are for programs alone: log in at /login instead"
        )
    if is_cross_site(request.headers, own):
        raise Rejected("CROSS_SITE", "another site sent this request: open the page here and send it from there")


def _end_with_token(request: Request, principal: Principal) -> Receive:
    """Return a receive that fails once the token has ended, so that running uploads end with it."""
    tokens, receive = dependencies_of(request).tokens, request.receive

    async def receiving() -> Message:
        message = await receive()
        if message["type"] == "http.request" and tokens.has_ended(principal.id):
            raise bad_token()
        return message

    return receiving


async def _require_csrf(request: Request, session: Session, receive: Receive) -> Receive:
    """Refuse a change without a valid CSRF token; forms with files send it in the URL."""
    given = request.headers.get("x-csrf-token") or request.query_params.get("csrf", "")
    if not given and is_small_form(request):
        fields, receive = await read_form(request)
        given = fields.get("csrf", "")
    if not dependencies_of(request).sessions.is_valid_csrf(session, given):
        raise Rejected("BAD_CSRF", "the form is not of this session: load its page again and send it from there")
    return receive


def _login_page(request: Request, error: PenstockError) -> Response | None:
    """Send a browser that has no session, or no longer, to the login page, and from there back."""
    wants_page = request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("accept", "")
    has_no_token = getattr(error, "code", "") in {"NO_TOKEN", "BAD_TOKEN"} and not token_from(request)
    if not (wants_page and has_no_token):
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    back = quote(request.url.path, safe="/%") + query
    return RedirectResponse(f"/login?{urlencode({'next': back})}", HTTPStatus.SEE_OTHER)


def _renewing_cookie(request: Request, send: Send) -> Send:
    """Renew the session cookie, unless the route sets or removes it."""
    session = session_from(request) if not dependencies_of(request).tokens.is_open else None
    if session is None or "principal" not in request.scope["state"] or not session.needs_renewal(datetime.now(UTC)):
        return send
    renewed = cookie_of(dependencies_of(request).sessions, session)

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if "set-cookie" not in headers:
                headers.append("set-cookie", renewed)
        await send(message)

    return sending
