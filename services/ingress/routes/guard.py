"""Who may come in: a bearer token, `?token=`, or a session cookie; each route says what it needs."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from fastapi import Depends
from starlette.requests import Request

from services.ingress.core.access import EVERYBODY, Principal, Scope
from services.ingress.core.problems import Problem
from services.ingress.doors import Doors, doors
from shared.errors import Rejected


def needs(scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
    """Return the dependency of a route that needs `scope`."""

    async def principal(request: Request) -> Principal:
        found = await identify(request)
        if not found.may(scope):
            raise Rejected("WRONG_SCOPE", f"the token {found.name} lacks the scope {scope}: use one that has it")
        return found

    return principal


async def identify(request: Request) -> Principal:
    """Return who sends a request.

    Raises Problem: NO_TOKEN, BAD_TOKEN.
    """
    tokens = doors(request).tokens
    if tokens.is_open:
        return EVERYBODY
    secret = _secret(request)
    challenge = {"www-authenticate": 'Bearer realm="penstock"'}
    if not secret:
        raise Problem("NO_TOKEN", "no token: send Authorization: Bearer <token>, or ?token=", headers=challenge)
    found = await tokens.authenticate(secret)
    if found is None:
        raise Problem("BAD_TOKEN", "the token is not known, was revoked or has expired", headers=challenge)
    return found


def _secret(request: Request) -> str:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else request.query_params.get("token", "")


Reader: TypeAlias = Annotated[Principal, Depends(needs("read"))]
WriterOf: TypeAlias = Annotated[Principal, Depends(needs("write"))]
Runner: TypeAlias = Annotated[Principal, Depends(needs("run"))]
Admin: TypeAlias = Annotated[Principal, Depends(needs("admin"))]
Through: TypeAlias = Annotated[Doors, Depends(doors)]
