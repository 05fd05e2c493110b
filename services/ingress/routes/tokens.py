"""Tokens: make, list and revoke them."""

from datetime import datetime, timedelta
from typing import Annotated

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.ingress.adapters.tokens import Wanted
from services.ingress.core.access import EVERYBODY, ROOT, Scope
from services.ingress.core.tokens import Token
from services.ingress.routes.auth_dependencies import Admin, Anybody, Through
from services.ingress.routes.json_route import JsonRoute

log = structlog.get_logger()
router = APIRouter(route_class=JsonRoute, tags=["tokens"])

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Place = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\x00-\x1f]{0,1024}$")]
LONGEST = 10 * 365 * 86_400
RESERVED = frozenset({ROOT.name, EVERYBODY.name})


class TokenWanted(BaseModel):
    """A token as it is asked for; without places it sees all, without `expires_in` it holds until revoked."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    scopes: frozenset[Scope] = Field(min_length=1)
    places: tuple[Place, ...] = Field((), max_length=100, description="bucket/prefix beginnings that it sees")
    rate: float | None = Field(None, gt=0, le=1e6, allow_inf_nan=False, description="requests a second")
    expires_in: float | None = Field(None, gt=0, le=LONGEST, allow_inf_nan=False, description="seconds")

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"{name} is taken: take another name")
        return name


class TokenTold(BaseModel):
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


class TokenMade(TokenTold):
    """A new token with its text."""

    token: str


class Me(BaseModel):
    """Whoever asks."""

    id: str
    name: str
    scopes: list[Scope]
    places: list[str]
    rate: float


@router.post("/tokens", status_code=201)
async def create_token(wanted: TokenWanted, who: Admin, through: Through) -> TokenMade:
    """Make a token, which can do no more than the one that asks and ends with it; its text is in this answer alone."""
    lasts = timedelta(seconds=wanted.expires_in) if wanted.expires_in else None
    asked = Wanted(wanted.name, wanted.scopes, wanted.places, wanted.rate, lasts)
    made, text = await through.tokens.create(asked, who)
    log.info("audit.token_created", by=who.name, id=made.id, name=made.name, scopes=sorted(made.scopes))
    return TokenMade(token=text, **_told(made).model_dump())


@router.get("/tokens")
async def list_tokens(who: Admin, through: Through) -> list[TokenTold]:
    """List the tokens that hold, without the first one, PENSTOCK_TOKEN; with places, itself and those it made."""
    return [_told(one) for one in await through.tokens.live(who)]


@router.delete("/tokens/{id}", status_code=204)
async def revoke_token(id: str, who: Admin, through: Through) -> None:  # noqa: A002 - the path's own word
    """Revoke a token at once, and all that was made by it: tokens, sessions, webhooks, streams, open uploads."""
    for revoked in await through.tokens.revoke(id, who):
        log.info("audit.token_revoked", by=who.name, id=revoked.id, name=revoked.name, made_by=revoked.created_by)


@router.get("/whoami")
async def whoami(who: Anybody, through: Through) -> Me:
    """Say who asks, and what that one may do."""
    return Me(
        id=who.id,
        name=who.name,
        scopes=sorted(who.scopes),
        places=list(who.places),
        rate=who.rate or through.settings.rate_limit,
    )


def _told(token: Token) -> TokenTold:
    return TokenTold(
        id=token.id,
        name=token.name,
        scopes=sorted(token.scopes),
        places=list(token.places),
        rate=token.rate,
        created_at=token.created_at,
        created_by=token.created_by,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )
