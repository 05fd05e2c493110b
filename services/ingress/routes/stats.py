"""Statistics: what the database holds, and who is at work."""

from typing import Any

from fastapi import APIRouter

from services.ingress.core.access import Principal
from services.ingress.core.counts import totalled
from services.ingress.routes.guard import Reader, Through
from shared.errors import Rejected

router = APIRouter(prefix="/stats", tags=["stats"])


@router.get("/database")
async def database(who: Reader, through: Through) -> dict[str, Any]:
    """Count digests, objects and leased work below what `who` sees; tables with their sizes, and the last sweep."""
    return totalled(await through.views.counts(who.places))


@router.get("/workers")
async def workers(who: Reader, through: Through) -> dict[str, Any]:
    """List the consumer groups with members, partitions, lag and rate, and who holds leased work."""
    _require_everything(who)
    return {"groups": await through.groups.told(), "leases": await through.views.leases()}


def _require_everything(who: Principal) -> None:
    """Refuse a token that sees a part: lag is of all."""
    if who.places:
        raise Rejected(
            "WRONG_PLACE", f"the token {who.name} sees {', '.join(who.places)} alone, and workers work for all"
        )
