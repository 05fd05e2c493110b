"""Tables that follow the files of a bucket: rows by filter, loads on demand, and what was rejected."""

import re
from http import HTTPStatus
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from services.ingress.adapters.loads import FINISHED_STATES
from services.ingress.adapters.tables import address_after
from services.ingress.core.access import Principal
from services.ingress.core.datasets import MAX_NAME, USERS
from services.ingress.core.filters import TYPES, DatasetName, Format, RowQuery, Text, negotiate_format
from services.ingress.dependencies import Dependencies
from services.ingress.routes.auth_dependencies import Deps, Reader, Runner

log = structlog.get_logger()
router = APIRouter(prefix="/data", tags=["data"])

_ROW: Final = {"type": "object", "description": "A row by its columns; of users these, and others as declared."}
_USER: Final = {
    **_ROW,
    "properties": {
        "first_name": {"type": ["string", "null"]},
        "last_name": {"type": ["string", "null"]},
        "birthts": {"type": ["string", "null"], "description": "UTC, in milliseconds since 1970, as text."},
        "img_path": {"type": "string", "description": "The image as bucket/key; empty: there is none."},
    },
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    HTTPStatus.OK: {
        "description": "The rows, in the order of their keys; JSON is one object, its members called by their keys.",
        "headers": {"Link": {"schema": {"type": "string"}, "description": "With a limit: the next page, rel=next."}},
        "content": {
            "application/json": {"schema": {"type": "object", "additionalProperties": _USER}},
            "text/csv": {"schema": {"type": "string"}},
            TYPES["parquet"]: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
Prefer = Annotated[str, Header(description="respond-async (RFC 7240): do not wait for the load.")]
_RESPOND_ASYNC: Final = re.compile(r"(^|[,;\s])respond-async\s*($|[,;])", re.IGNORECASE)
Dataset = Annotated[
    DatasetName, Query(max_length=MAX_NAME, description="Which table, as the file of datasets names it.")
]


class RequestedLoad(BaseModel):
    """A requested load."""

    load_id: str = Field(description="32 hex digits.")
    status_url: str = Field(description="Tells how far it is.")
    state: str = Field(description="As status_url tells it; requested where nobody waited for it.")
    message: str


@router.get("", response_class=Response, responses=_ANSWERS)
async def get_data(request: Request, query: Annotated[RowQuery, Query()], principal: Reader, deps: Deps) -> Response:
    """Return the current rows of a dataset that match the filters."""
    dataset = await deps.tables.dataset(query.dataset, principal)
    query.require_ages(dataset)
    file_format = negotiate_format(query.format, request.headers.get("accept", ""))
    return deps.tables.rows(dataset, query, file_format, request.url)


@router.post("", status_code=202)
async def request_load(
    response: Response, principal: Runner, deps: Deps, dataset: Dataset = USERS, prefer: Prefer = ""
) -> RequestedLoad:
    """Compare a dataset's bucket with its table now, and read what differs; wait some seconds for its end."""
    load_id = await request_dataset_load(dataset, principal, deps)
    status_url = f"/data/loads/{load_id}"
    response.headers["location"] = status_url
    if _RESPOND_ASYNC.search(prefer):
        response.headers["preference-applied"] = "respond-async"
        state = "requested"
    else:
        state = (await deps.loads.wait_until_finished(load_id, dataset, deps.settings.load_wait_seconds))["state"]
    said = f"has {state}" if state in FINISHED_STATES else "was asked for"
    message = f"The load of {dataset} {said}. GET {status_url} tells how far it is."
    return RequestedLoad(load_id=load_id, status_url=status_url, state=state, message=message)


@router.get("/loads")
async def list_loads(
    principal: Reader,
    deps: Deps,
    limit: Annotated[int, Query(ge=1, le=1000, description="Loads at most.")] = 20,
) -> list[dict[str, Any]]:
    """List the last loads of every dataset, newest first."""
    return await deps.loads.latest(await _names(principal, deps), limit)


@router.get("/loads/{load_id}")
async def get_load(
    load_id: Annotated[
        str, Path(max_length=200, pattern=r"^[^\x00]*$", description="The `load_id` that POST /data returned.")
    ],
    principal: Reader,
    deps: Deps,
) -> dict[str, Any]:
    """Return a load: requested, pending, running, succeeded or failed, with its counts."""
    return await deps.loads.get(load_id, await _names(principal, deps))


@router.get("/rejects", response_class=Response, responses={200: {"content": {"text/csv": {}, TYPES["json"]: {}}}})
async def get_rejects(  # noqa: PLR0913, PLR0917 - the query parameters
    request: Request,
    principal: Reader,
    deps: Deps,
    dataset: Dataset = USERS,
    file: Annotated[Text, Query(max_length=1024, description="The key of one file; left out: every file.")] = "",
    after: Annotated[Text, Query(max_length=10_000, description="The `next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="Rows at most; CSV has all of them.")] = 100,
    format: Annotated[Format | None, Query(description="json or csv, or by Accept.")] = None,  # noqa: A002
) -> Response:
    """Return rejected rows with reasons, by file and row; row 0 is the whole file."""
    found = await deps.tables.dataset(dataset, principal)
    if negotiate_format(format, request.headers.get("accept", "")) == "csv":
        return deps.tables.rejects_csv(found, file)
    rejects, following = await deps.tables.rejects_page(found, file, after, limit)
    link = {"link": f'<{address_after(request.url, following)}>; rel="next"'} if following else {}
    return JSONResponse(jsonable_encoder({"rejects": rejects, "next": following or None}), headers=link)


async def request_dataset_load(dataset: str, principal: Principal, deps: Dependencies) -> str:
    """Request a load of a dataset that `principal` may see; return its id."""
    found = await deps.tables.dataset(dataset, principal)
    load_id = await deps.loads.request(found.name)
    log.info("audit.load_requested", by=principal.name, dataset=found.name, load_id=load_id)
    return load_id


async def _names(principal: Principal, deps: Dependencies) -> list[str]:
    return [one.name for one in await deps.tables.visible_datasets(principal)]
