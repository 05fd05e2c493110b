"""Pages around digests: upload form, results by id, and recent objects."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.ingress.core.access import Principal
from services.ingress.core.navigation import NavigationEntry
from services.ingress.core.result_page import RecentObject, UploadResult
from services.ingress.core.write_headers import CONDITION_HEADERS, OBJECT_HEADERS
from services.ingress.dependencies import Dependencies
from services.ingress.routes.auth_dependencies import Authenticated, Deps, Reader, Writer
from services.ingress.routes.digests import find_visible, store_upload
from services.ingress.routes.honored_headers import honors
from services.ingress.routes.rendering import render
from shared.outages import is_outage

NAVIGATION = (NavigationEntry("Home", "/", "home", 0), NavigationEntry("Upload", "/uploadform/", "upload", 10))
MAX_RECENT = 12
router = APIRouter(include_in_schema=False)

FileId = Annotated[str, Query(max_length=200)]


@router.get("/")
async def home(request: Request, principal: Authenticated, deps: Deps) -> Response:
    """Show the upload forms and the recent objects."""
    return render(request, "home.html", recent=await _recent(principal, deps))


@router.get("/recent")
async def recent(request: Request, principal: Reader, deps: Deps) -> Response:
    """Return the list of recent objects, to update an open page."""
    return render(request, "recent.html", recent=await _recent(principal, deps))


@router.get("/uploadform/")
async def upload_form(request: Request, _who: Authenticated) -> Response:
    """Show the upload form."""
    return render(request, "upload.html")


@router.post("/uploadfile-html/")
@router.post("/uploadfile-html")
@honors(CONDITION_HEADERS | OBJECT_HEADERS | {"repr-digest"})
async def upload_file(request: Request, principal: Writer, deps: Deps) -> Response:
    """Store the file of the form, and show the page on which its digests will appear."""
    uploaded = await store_upload(request, principal, deps, [])
    # the page polls for the result: the upload succeeds even during a database outage
    return render(request, "result.html", result=None, file_id=uploaded.id, is_new=True)


@router.get("/gethash-form/")
async def result(request: Request, principal: Reader, deps: Deps, file_id: FileId = "") -> Response:
    """Show the digests of an upload, or its progress."""
    found = await _result(file_id.strip(), principal, deps) if file_id.strip() else None
    return render(request, "result.html", result=found, file_id=file_id.strip(), is_new=False)


@router.get("/gethash-form/fragment")
async def result_alone(
    request: Request, principal: Reader, deps: Deps, file_id: FileId = "", seen: str = ""
) -> Response:
    """Return the result to update an open page; 204 if it has not changed."""
    found = await _result(file_id, principal, deps)
    if found.fingerprint == seen:
        return Response(status_code=204)
    return render(request, "fragment.html", result=found)


async def _result(file_id: str, principal: Principal, deps: Dependencies) -> UploadResult:
    return UploadResult(file_id, await find_visible(file_id, principal, deps))


async def _recent(principal: Principal, deps: Dependencies) -> list[RecentObject] | None:
    """Return recent objects; None during an outage, so that uploads stay possible."""
    if not principal.may("read"):
        return []
    try:
        return await deps.views.recent(principal.prefixes, MAX_RECENT)
    except Exception as error:
        if not is_outage(error):
            raise
        return None
