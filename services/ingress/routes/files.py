"""The file server: store a form's file under its name, and download it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel
from starlette.responses import RedirectResponse

from services.ingress.adapters.bodies import Body, File
from services.ingress.core.names import existing_key, safe_key, safe_path
from services.ingress.core.write_headers import CONDITION_HEADERS, OBJECT_HEADERS, ObjectHeaders
from services.ingress.routes.auth_dependencies import Deps, Reader, Writer
from services.ingress.routes.honored_headers import honors
from services.ingress.routes.objects import writable_ref
from services.ingress.routes.rendering import wants_page
from shared.storage import ObjectRef

router = APIRouter(tags=["files"])

FOLDER = "files/"
FIELD = "file"
BINARY = {"type": "string", "format": "binary"}


def described(**fields: object) -> dict[str, object]:
    """Describe, for OpenAPI, a form with these required fields, which the route parses as a stream."""
    schema = {"type": "object", "required": sorted(fields), "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


FORM = described(file=BINARY)


class Submitted(BaseModel):
    """A stored file, in the exact body that clients of the former server compare."""

    message: str


@router.post("/files/", status_code=202, response_model=Submitted, openapi_extra=FORM)
@router.post("/files", status_code=202, response_model=Submitted, include_in_schema=False)
@honors(CONDITION_HEADERS | OBJECT_HEADERS | {"repr-digest"})
async def submit_file(request: Request, response: Response, principal: Writer, deps: Deps) -> Submitted | Response:
    """Store the file of a form under its name; answer with Location and ETag once it is complete."""

    def choose_ref(file: File, _fields: Mapping[str, str]) -> ObjectRef:
        return writable_ref(deps.settings.upload_bucket, file_key(file.filename), principal, deps)

    headers = ObjectHeaders.of_form(request.headers.raw)
    received = await deps.uploads.store_form(Body(request, deps.settings), choose_ref, field=FIELD, headers=headers)
    info = received.info
    name = info.ref.key.removeprefix(FOLDER)
    if wants_page(request):
        return RedirectResponse(f"/files/?{urlencode({'stored': name})}", HTTPStatus.SEE_OTHER)
    response.headers["location"], response.headers["etag"] = f"/files/{quote(name)}", f'"{info.etag}"'
    return Submitted(message=f"{name} upload task submitted.")


@router.get("/files/{name:path}", response_class=Response)
@router.head("/files/{name:path}", response_class=Response)
async def get_file(
    name: Annotated[str, Path(description="The file's name.")], principal: Reader, deps: Deps
) -> Response:
    """Download a file: whole, as a range, or 304."""
    return deps.downloads.of(ObjectRef(deps.settings.upload_bucket, existing_key(FOLDER + name)), principal)


def file_key(filename: str) -> str:
    """Return the key for a file name; folders are dropped, and names that escape their folder are refused."""
    return safe_key(FOLDER + safe_path(filename).rpartition("/")[2])
