"""The pages around digests: files in by a form or a drop, results by id, and what came last."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.ingress.core.access import Principal
from services.ingress.core.navigation import Entry
from services.ingress.core.result_page import Recent, Result
from services.ingress.core.write_headers import CONDITIONS, OF_OBJECTS
from services.ingress.dependencies import Doors
from services.ingress.routes.auth_dependencies import Anybody, Reader, Through, WriterOf
from services.ingress.routes.digests import linked, stored
from services.ingress.routes.honored_headers import honors
from services.ingress.routes.rendering import render
from shared.patience import is_outage

NAVIGATION = (Entry("Home", "/", "home", 0), Entry("Upload", "/uploadform/", "upload", 10))
RECENT = 12
router = APIRouter(include_in_schema=False)

FileId = Annotated[str, Query(max_length=200)]


@router.get("/")
async def home(request: Request, who: Anybody, through: Through) -> Response:
    """Show where files go in, and what came last."""
    return render(request, "home.html", recent=await _recent(who, through))


@router.get("/recent")
async def recent(request: Request, who: Reader, through: Through) -> Response:
    """Give the list of what came last, for a page that shows it already."""
    return render(request, "recent.html", recent=await _recent(who, through))


@router.get("/uploadform/")
async def upload_form(request: Request, _who: Anybody) -> Response:
    """Show the form that takes a file."""
    return render(request, "upload.html")


@router.post("/uploadfile-html/")
@router.post("/uploadfile-html")
@honors(CONDITIONS | OF_OBJECTS | {"repr-digest"})
async def upload_file(request: Request, who: WriterOf, through: Through) -> Response:
    """Store the file of the form, and show the page on which its digests will appear."""
    uploaded = await stored(request, who, through, [])
    # asked for by the page itself: the file is stored, even while nobody can say anything of it
    return render(request, "result.html", result=None, file_id=uploaded.id, is_new=True)


@router.get("/gethash-form/")
async def result(request: Request, who: Reader, through: Through, file_id: FileId = "") -> Response:
    """Show the digests of an upload, or how far they are."""
    found = await _result(file_id.strip(), who, through) if file_id.strip() else None
    return render(request, "result.html", result=found, file_id=file_id.strip(), is_new=False)


@router.get("/gethash-form/fragment")
async def result_alone(
    request: Request, who: Reader, through: Through, file_id: FileId = "", seen: str = ""
) -> Response:
    """Give the result for a page that shows an older one; nothing where that is still right."""
    found = await _result(file_id, who, through)
    if found.mark == seen:
        return Response(status_code=204)
    return render(request, "fragment.html", result=found)


async def _result(file_id: str, who: Principal, through: Doors) -> Result:
    return Result(file_id, await linked(file_id, who, through))


async def _recent(who: Principal, through: Doors) -> list[Recent] | None:
    """Return what came last; None while nobody can tell, which is no reason to refuse files."""
    if not who.may("read"):
        return []
    try:
        return await through.views.recent(who.places, RECENT)
    except Exception as error:
        if not is_outage(error):
            raise
        return None
