"""The page of a table: its rows with their images, how old they are, what was rejected, and its loads."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from services.ingress.core.access import Principal
from services.ingress.core.ages import histogram, summarize
from services.ingress.core.data_page import DataPage, LoadRow
from services.ingress.core.datasets import MAX_NAME, USERS
from services.ingress.core.filters import DatasetName, RowQuery, Text
from services.ingress.core.navigation import NavigationEntry
from services.ingress.dependencies import Dependencies
from services.ingress.routes.auth_dependencies import Deps, Reader, Runner
from services.ingress.routes.data import request_dataset_load
from services.ingress.routes.rendering import render

NAVIGATION = (NavigationEntry("Users", "/users", "users", 30),)
PATH = "/users"
SHOWN = 50
REJECTS = 20
LOADS = 5
router = APIRouter(include_in_schema=False)

Dataset = Annotated[DatasetName, Query(max_length=MAX_NAME)]
LoadId = Annotated[Text, Query(max_length=200)]


@router.get(PATH)
async def users(
    request: Request, query: Annotated[RowQuery, Query()], principal: Reader, deps: Deps, load_id: LoadId = ""
) -> Response:
    """Show a dataset: filtered rows by page, statistics, rejected rows and loads."""
    datasets = await deps.tables.visible_datasets(principal)
    if not datasets:
        return render(request, "no_users.html")
    dataset = await deps.tables.dataset(query.dataset, principal)
    query.require_ages(dataset)
    query = query.model_copy(update={"limit": SHOWN})
    rows, following = await deps.tables.rows_page(dataset, query)
    spans = await deps.tables.spans(dataset, query)
    rejects, more_rejects = await deps.tables.rejects_page(dataset, "", "", REJECTS)
    return render(
        request,
        "users.html",
        page=DataPage(dataset, query, tuple(one.name for one in datasets)),
        rows=rows,
        following=following,
        summary=summarize(spans),
        bars=histogram(spans),
        rejects=rejects,
        more_rejects=more_rejects,
        loads=await _loads(dataset.name, load_id, principal, deps),
        load_id=load_id,
        may_run=principal.may("run"),
    )


@router.get(f"{PATH}/loads")
async def loads(
    request: Request, principal: Reader, deps: Deps, dataset: Dataset = USERS, load_id: LoadId = ""
) -> Response:
    """Return the last loads, to update an open page."""
    found = await deps.tables.dataset(dataset, principal)
    return render(
        request,
        "loads.html",
        loads=await _loads(found.name, load_id, principal, deps),
        dataset=found.name,
        load_id=load_id,
    )


@router.post(f"{PATH}/run")
async def run(principal: Runner, deps: Deps, dataset: Dataset = USERS) -> Response:
    """Ask for a load, and go back to the page, which follows it."""
    load_id = await request_dataset_load(dataset, principal, deps)
    back = f"{PATH}?{urlencode({'dataset': dataset, 'load_id': load_id})}#loads-title"
    return RedirectResponse(back, HTTPStatus.SEE_OTHER)


async def _loads(dataset: str, load_id: str, principal: Principal, deps: Dependencies) -> list[LoadRow]:
    """Return the last loads, preceded by the one requested on this page while etl has not recorded it."""
    latest = [LoadRow.of(one) for one in await deps.loads.latest([dataset], LOADS)]
    if not load_id or any(one.load_id == load_id for one in latest) or not principal.may("read"):
        return latest
    found = await deps.loads.find(load_id, [dataset])
    return [LoadRow.of(found), *latest][:LOADS] if found else latest
