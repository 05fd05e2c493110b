"""Statistics of datasets, database and workers."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from services.ingress.core.access import Principal
from services.ingress.core.ages import summarize
from services.ingress.core.counts import add_totals
from services.ingress.core.filters import Filters
from services.ingress.routes.auth_dependencies import Deps, Reader
from shared.errors import Rejected

router = APIRouter(prefix="/stats", tags=["stats"])


class AgeCount(BaseModel):
    """One bar of a histogram."""

    start: int = Field(alias="from", description="The least age; it is included.")
    to: int = Field(description="The greatest age, likewise.")
    count: int


class Statistics(BaseModel):
    """Counts of rows and ages in whole calendar years; null if no row has an age."""

    dataset: str
    count: int
    with_image: int
    without_image: int
    average_age: float | None = Field(description="Rounded to one digit after the point.")
    min_age: int | None
    max_age: int | None
    ages: list[AgeCount] = Field(description="How many rows have an age of ten years each, from the youngest on.")


@router.get("")
async def statistics(filters: Annotated[Filters, Query()], principal: Reader, deps: Deps) -> Statistics:
    """Return counts and ages of the rows that match the filters."""
    dataset = await deps.tables.dataset(filters.dataset, principal)
    filters.require_ages(dataset)
    spans = await deps.tables.spans(dataset, filters)
    return Statistics.model_validate({"dataset": dataset.name, **summarize(spans)})


@router.get("/database")
async def database(principal: Reader, deps: Deps) -> dict[str, Any]:
    """Count digests, objects and leased work below the caller's prefixes; the rest without prefixes."""
    async with deps.statistics.hold():
        return add_totals(await deps.views.counts(principal.prefixes))


@router.get("/workers")
async def workers(principal: Reader, deps: Deps) -> dict[str, Any]:
    """List consumer groups with members, partitions, lag and rate, and the holders of leased work."""
    _require_everything(principal)
    async with deps.statistics.hold():
        return {"groups": await deps.consumer_groups.describe(), "leases": await deps.views.leases()}


def _require_everything(principal: Principal) -> None:
    """Refuse a token that sees a part: lag is of all."""
    if principal.prefixes:
        raise Rejected(
            "WRONG_PLACE",
            f"the token {principal.name} sees {', '.join(principal.prefixes)} alone, and workers work for all",
        )
