"""The page of a table: its rows with their images, how old they are, what was rejected, and its loads."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from services.ingress.core.access import Principal
from services.ingress.core.ages import bars, summed
from services.ingress.core.data_page import Load, Sheet
from services.ingress.core.datasets import MAX_NAME, USERS
from services.ingress.core.filters import DatasetName, Rows, Text
from services.ingress.core.navigation import Entry
from services.ingress.dependencies import Doors
from services.ingress.routes.auth_dependencies import Reader, Runner, Through
from services.ingress.routes.data import requested
from services.ingress.routes.rendering import render

NAVIGATION = (Entry("Users", "/users", "users", 30),)
PATH = "/users"
SHOWN = 50
REJECTS = 20
LOADS = 5
router = APIRouter(include_in_schema=False)

Dataset = Annotated[DatasetName, Query(max_length=MAX_NAME)]
LoadId = Annotated[Text, Query(max_length=200)]


@router.get(PATH)
async def users(
    request: Request, wanted: Annotated[Rows, Query()], who: Reader, through: Through, load_id: LoadId = ""
) -> Response:
    """Show a dataset: its rows by filter, a page at a time, and all that is known of them."""
    datasets = await through.tables.seen_by(who)
    if not datasets:
        return render(request, "no_users.html")
    dataset = await through.tables.dataset(wanted.dataset, who)
    wanted.require_fit(dataset)
    wanted = wanted.model_copy(update={"limit": SHOWN})
    rows, following = await through.tables.shown(dataset, wanted)
    spans = await through.tables.spans(dataset, wanted)
    rejects, more_rejects = await through.tables.rejected(dataset, "", "", REJECTS)
    return render(
        request,
        "users.html",
        sheet=Sheet(dataset, wanted, tuple(one.name for one in datasets)),
        rows=rows,
        following=following,
        summary=summed(spans),
        bars=bars(spans),
        rejects=rejects,
        more_rejects=more_rejects,
        loads=await _loads(dataset.name, load_id, who, through),
        load_id=load_id,
        may_run=who.may("run"),
    )


@router.get(f"{PATH}/loads")
async def loads(
    request: Request, who: Reader, through: Through, dataset: Dataset = USERS, load_id: LoadId = ""
) -> Response:
    """Give the last loads, for a page that shows older ones."""
    found = await through.tables.dataset(dataset, who)
    return render(
        request,
        "loads.html",
        loads=await _loads(found.name, load_id, who, through),
        dataset=found.name,
        load_id=load_id,
    )


@router.post(f"{PATH}/run")
async def run(who: Runner, through: Through, dataset: Dataset = USERS) -> Response:
    """Ask for a load, and go back to the page, which follows it."""
    load_id = await requested(dataset, who, through)
    back = f"{PATH}?{urlencode({'dataset': dataset, 'load_id': load_id})}#loads-title"
    return RedirectResponse(back, HTTPStatus.SEE_OTHER)


async def _loads(dataset: str, load_id: str, who: Principal, through: Doors) -> list[Load]:
    """Return the last loads, and first of all the one that was asked for on this page while nobody has begun it."""
    latest = [Load.of(one) for one in await through.loads.latest([dataset], LOADS)]
    if not load_id or any(one.load_id == load_id for one in latest) or not who.may("read"):
        return latest
    asked = await through.loads.known(load_id, [dataset])
    return [Load.of(asked), *latest][:LOADS] if asked else latest
