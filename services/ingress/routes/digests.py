"""Files in, digests out, by an id that nobody can guess."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from services.ingress.adapters.bodies import Body, File, has_body
from services.ingress.adapters.upload_lookup import find
from services.ingress.core import upload_ids, upload_status
from services.ingress.core.access import Principal
from services.ingress.core.problems import Problem
from services.ingress.core.write_headers import CONDITIONS, OF_OBJECTS, ObjectHeaders
from services.ingress.dependencies import Doors, doors
from services.ingress.routes import error_handlers
from services.ingress.routes.auth_dependencies import Reader, Through, WriterOf
from services.ingress.routes.files import FORM
from services.ingress.routes.honored_headers import honors
from services.ingress.routes.objects import place
from shared.errors import Rejected
from shared.storage import ObjectRef

router = APIRouter(tags=["digests"])

MAX_QUESTION_BYTES: Final = 4 << 10
UPLOADS: Final = ("/uploadfile/", "/uploadfile")
ROOTS: Final = ("", "/get_hash")
SHOWN: Final = frozenset({"/gethash/", "/gethash/{file_id}"})
"""The spellings that the API's document tells; the others are for old clients."""

Algorithms = Annotated[list[str], Query(description="Digests beside the default ones; several, or a list with commas.")]
FileId = Annotated[str, Query(description="What the upload answered; it may come in a JSON body too.")]
Algorithm = Annotated[str, Query(description="The digest that is told as `hash`.")]

error_handlers.TOLD_BESIDE.update(dict.fromkeys(UPLOADS, upload_ids.FAILED))


class Uploaded(BaseModel):
    """An upload that is stored, and whose digests are on their way."""

    success: bool
    id: str
    celery_status: upload_status.Status
    celery_id: str
    bucket: str
    key: str
    etag: str
    size: int


class HashTold(BaseModel):
    """An upload's digests, or how far they are; of an id that is none, status and hash alone."""

    status: Literal["PENDING", "SUCCESS", "FAILURE", "INVALID_ID"]
    hash: str | None
    id: str | None = None
    bucket: str | None = None
    key: str | None = None
    algorithm: str | None = None
    digests: dict[str, str] | None = None
    size: int | None = None
    error: str | None = None
    phase: upload_status.Phase | None = None
    progress: dict[str, Any] | None = None


@router.post("/uploadfile", include_in_schema=False)
@router.post("/uploadfile/", openapi_extra=FORM)
@honors(CONDITIONS | OF_OBJECTS | {"repr-digest"})
async def upload_file(request: Request, who: WriterOf, through: Through, algorithm: Algorithms = []) -> Uploaded:  # noqa: B006
    """Store the file that comes in `file`, and answer with the id by which its digests can be had."""
    return await stored(request, who, through, algorithm)


async def stored(request: Request, who: Principal, through: Doors, algorithms: list[str]) -> Uploaded:
    """Store the file of a form under an id of its own; needs the store and nothing else."""
    number = upload_ids.new_id()
    settings = through.settings

    def place_of(file: File, _: Mapping[str, str]) -> ObjectRef:
        return place(settings.upload_bucket, upload_ids.key_of(number, file.filename), who, through)

    metadata = upload_ids.metadata_of(who.id, algorithms, settings.hasher_digests)
    headers = ObjectHeaders.of_form(request.headers.raw).with_metadata(metadata)
    done = await through.uploads.form(Body(request, settings), place_of, field="file", headers=headers)
    ref = done.info.ref
    return Uploaded(
        success=True,
        id=number,
        celery_status="PENDING",
        celery_id=number,
        bucket=ref.bucket,
        key=ref.key,
        etag=done.info.etag,
        size=done.info.size,
    )


async def get_hash(
    request: Request, who: Reader, file_id: FileId = "", algorithm: Algorithm = upload_status.ALGORITHM
) -> JSONResponse:
    """Tell an upload's digest: PENDING until it is done, with its phase and progress; SUCCESS, FAILURE, INVALID_ID."""
    # not a dependency: FastAPI would send it through a thread, and this is asked hundreds of times a second
    through = doors(request)
    number = file_id or await _asked(request, through)
    return JSONResponse(await status_of(number, algorithm, who, through))


async def get_hash_of(
    request: Request, file_id: str, who: Reader, algorithm: Algorithm = upload_status.ALGORITHM
) -> JSONResponse:
    """Tell an upload's digest, or how far it is, by an address of its own."""
    return JSONResponse(await status_of(file_id, algorithm, who, doors(request)))


async def status_of(id: str, algorithm: str, who: Principal, through: Doors) -> dict[str, Any]:  # noqa: A002
    """Return what is told of the upload `id` to `who`; another's does not exist.

    Raises Rejected: UNKNOWN_DIGEST, NOT_COMPUTED.
    """
    upload = await linked(id, who, through)
    return upload_status.told(upload, algorithm) if upload else upload_status.invalid()


async def linked(id: str, who: Principal, through: Doors) -> upload_status.Upload | None:  # noqa: A002
    """Return all that is known of the upload `id` to `who`."""
    return await find(id, who, views=through.views, store=through.store, bucket=through.settings.upload_bucket)


@router.get("/links/{id}")
async def get_links(id: str, who: Reader, through: Through) -> dict[str, Any]:  # noqa: A002 - the path's own word
    """Follow an upload from its id to the object, the event, the work and the result."""
    upload = await linked(id, who, through)
    if upload is None:
        raise Problem("NOT_FOUND", "there is no upload with this id: check it, and the token it was made with")
    return upload_status.linked(upload)


async def _asked(request: Request, through: Doors) -> str:
    """Return the id that comes in a JSON body; empty where none comes."""
    if not has_body(request):
        return ""
    question = await Body(request, through.settings).whole(MAX_QUESTION_BYTES)
    try:
        said = json.loads(question)
    except (ValueError, RecursionError):
        raise Rejected("BROKEN_BODY", 'the body is no JSON: send {"file_id": ID}') from None
    return str(said.get("file_id", "")) if isinstance(said, dict) else ""


_SPELLINGS: Final[Mapping[str, Callable[..., Any]]] = {
    "/gethash/": get_hash,
    "/gethash": get_hash,
    "/gethash/{file_id}": get_hash_of,
    "/gethash/{file_id}/": get_hash_of,
}
for _path, _answer in ((f"{root}{path}", answer) for root in ROOTS for path, answer in _SPELLINGS.items()):
    for _method in ("GET", "POST"):
        router.add_api_route(
            _path, _answer, methods=[_method], response_model=HashTold, include_in_schema=_path in SHOWN
        )
