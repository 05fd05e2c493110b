"""Create, list and revoke tokens."""

from datetime import datetime, timedelta
from typing import Annotated

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.ingress.adapters.tokens import TokenRequest
from services.ingress.core.access import EVERYBODY, ROOT, Scope
from services.ingress.core.tokens import Token
from services.ingress.routes.auth_dependencies import Admin, Authenticated, Deps
from services.ingress.routes.json_route import JsonRoute

log = structlog.get_logger()
router = APIRouter(route_class=JsonRoute, tags=["tokens"])

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\x00-\x1f]{0,1024}$")]
MAX_EXPIRES_IN = 10 * 365 * 86_400
RESERVED = frozenset({ROOT.name, EVERYBODY.name})


class NewToken(BaseModel):
    """A token to create; without `places` it sees everything, without `expires_in` it is valid until revoked."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    scopes: frozenset[Scope] = Field(min_length=1)
    places: tuple[Prefix, ...] = Field((), max_length=100, description="bucket/prefix beginnings that it sees")
    rate: float | None = Field(None, gt=0, le=1e6, allow_inf_nan=False, description="requests a second")
    expires_in: float | None = Field(None, gt=0, le=MAX_EXPIRES_IN, allow_inf_nan=False, description="seconds")

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"{name} is taken: take another name")
        return name


class TokenInfo(BaseModel):
    """A token as it is shown; its text is in no answer but that to its making."""

    id: str
    name: str
    scopes: list[Scope]
    places: list[str]
    rate: float | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None


class CreatedToken(TokenInfo):
    """A new token with its text."""

    token: str


class WhoAmI(BaseModel):
    """The caller."""

    id: str
    name: str
    scopes: list[Scope]
    places: list[str]
    rate: float


@router.post("/tokens", status_code=201)
async def create_token(body: NewToken, principal: Admin, deps: Deps) -> CreatedToken:
    """Create a token with no more rights than the caller's; its text is in this answer only."""
    ttl = timedelta(seconds=body.expires_in) if body.expires_in else None
    request = TokenRequest(body.name, body.scopes, body.places, body.rate, ttl)
    token, text = await deps.tokens.create(request, principal)
    log.info("audit.token_created", by=principal.name, id=token.id, name=token.name, scopes=sorted(token.scopes))
    return CreatedToken(token=text, **_info(token).model_dump())


@router.get("/tokens")
async def list_tokens(principal: Admin, deps: Deps) -> list[TokenInfo]:
    """List valid tokens except PENSTOCK_TOKEN; a caller with `places` sees itself and its descendants."""
    return [_info(one) for one in await deps.tokens.live(principal)]


@router.delete("/tokens/{id}", status_code=204)
async def revoke_token(id: str, principal: Admin, deps: Deps) -> None:  # noqa: A002 - the name in the path
    """Revoke a token at once, and all that was made by it: tokens, sessions, webhooks, streams, open uploads."""
    for revoked in await deps.tokens.revoke(id, principal):
        log.info("audit.token_revoked", by=principal.name, id=revoked.id, name=revoked.name, made_by=revoked.created_by)


@router.get("/whoami")
async def whoami(principal: Authenticated, deps: Deps) -> WhoAmI:
    """Return the caller and its rights."""
    return WhoAmI(
        id=principal.id,
        name=principal.name,
        scopes=sorted(principal.scopes),
        places=list(principal.prefixes),
        rate=principal.rate or deps.settings.rate_limit,
    )


def _info(token: Token) -> TokenInfo:
    return TokenInfo(
        id=token.id,
        name=token.name,
        scopes=sorted(token.scopes),
        places=list(token.prefixes),
        rate=token.rate,
        created_at=token.created_at,
        created_by=token.created_by,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )
