"""Authenticate a request by bearer token, `?token=` or session cookie, and check the scope a route needs.

Programs that take only a URL may send the token as the password of Basic credentials. No response asks for Basic:
browsers would cache such credentials and send them with requests of other sites.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated, Final, TypeAlias
from urllib.parse import unquote_plus

from fastapi import Depends
from starlette.requests import Request

from services.ingress.core.access import EVERYBODY, Principal, Scope, anonymous_reader
from services.ingress.core.problems import HttpProblem
from services.ingress.core.sessions import Session
from services.ingress.dependencies import Dependencies, dependencies_of
from shared.errors import Rejected

CHALLENGE: Final = {"www-authenticate": 'Bearer realm="penstock"'}


async def authenticate(request: Request) -> Principal:
    """Return the principal of a request; called once per request by the auth middleware.

    Raises HttpProblem: NO_TOKEN, BAD_TOKEN.
    """
    tokens = dependencies_of(request).tokens
    if tokens.is_open:
        return EVERYBODY
    if text := token_from(request):
        found = await tokens.authenticate(text)
    elif (session := session_from(request)) is not None:
        found = tokens.principal_for(session.token_id, session=session.id)
    else:
        raise HttpProblem("NO_TOKEN", "no token: send Authorization: Bearer <token>, or ?token=", headers=CHALLENGE)
    if found is None:
        raise bad_token()
    return found


def anonymous_principal(request: Request) -> Principal | None:
    """Return the principal of a request without a token, by PENSTOCK_ANONYMOUS_READ_BUCKETS."""
    buckets = dependencies_of(request).settings.anonymous_read_buckets
    return anonymous_reader(request.method, request.scope["path"], buckets) if buckets else None


def bad_token() -> HttpProblem:
    """Return the refusal of a token that does not hold, or no longer."""
    return HttpProblem("BAD_TOKEN", "the token is not known, was revoked or has expired", headers=CHALLENGE)


def token_from(request: Request) -> str:
    """Return the text of the token that a request brings; empty when it brings none."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return text.strip()
    basic = _password(text) if kind.lower() == "basic" else ""
    return basic or unquote_plus(_last(_TOKEN, request.scope["query_string"]))


def is_basic(request: Request) -> bool:
    """Return whether the token comes as the password of Basic credentials."""
    return request.headers.get("authorization", "").partition(" ")[0].lower() == "basic"


def _password(credentials: str) -> str:
    """Return the password of Basic credentials (RFC 7617), for any user; empty if there is none."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def session_from(request: Request) -> Session | None:
    """Return the session of the cookie; None if the request has a token, which takes precedence."""
    sessions = dependencies_of(request).sessions
    cookie = _last(_cookie(sessions.cookie), request.headers.get("cookie", "").encode("latin-1"))
    return sessions.unsign(cookie) if cookie and not token_from(request) else None


_TOKEN: Final = re.compile(rb"(?:^|&)token=([^&]*)")


@cache
def _cookie(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|[;,\s])" + re.escape(name.encode()) + rb"=\"?([^;\"\s]*)")


def _last(pattern: re.Pattern[bytes], text: bytes) -> str:
    """Return the last match; nothing else of an unauthenticated request is parsed, which would take milliseconds."""
    found = pattern.findall(text)
    return found[-1].decode("latin-1") if found else ""


def csrf_of(request: Request) -> str:
    """Return what the forms of a page send along as `csrf`; empty where no session needs it."""
    session = session_from(request)
    return dependencies_of(request).sessions.csrf_token(session) if session else ""


def principal_of(request: Request) -> Principal:
    """Return the principal that the auth middleware has set."""
    found: Principal = request.state.principal
    return found


def require_scope(scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
    """Return the dependency of a route that needs `scope`."""

    async def principal(request: Request) -> Principal:
        found = principal_of(request)
        if not found.may(scope):
            raise Rejected("WRONG_SCOPE", f"the token {found.name} lacks the scope {scope}: use one that has it")
        return found

    return principal


async def authenticated(request: Request) -> Principal:
    """Return the authenticated principal; a coroutine, since FastAPI runs other dependencies in threads."""
    return principal_of(request)


async def get_dependencies(request: Request) -> Dependencies:
    """Return the dependencies; a coroutine for the same reason."""
    return dependencies_of(request)


Authenticated: TypeAlias = Annotated[Principal, Depends(authenticated)]
Reader: TypeAlias = Annotated[Principal, Depends(require_scope("read"))]
Writer: TypeAlias = Annotated[Principal, Depends(require_scope("write"))]
Runner: TypeAlias = Annotated[Principal, Depends(require_scope("run"))]
Admin: TypeAlias = Annotated[Principal, Depends(require_scope("admin"))]
Deps: TypeAlias = Annotated[Dependencies, Depends(get_dependencies)]
