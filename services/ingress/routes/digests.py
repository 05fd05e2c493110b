"""Upload files and read their digests by an unguessable id."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from services.ingress.adapters.bodies import Body, File, has_body
from services.ingress.adapters.upload_lookup import find_upload
from services.ingress.core import upload_ids, upload_status
from services.ingress.core.access import Principal
from services.ingress.core.problems import HttpProblem
from services.ingress.core.write_headers import CONDITION_HEADERS, OBJECT_HEADERS, ObjectHeaders
from services.ingress.dependencies import Dependencies, dependencies_of
from services.ingress.routes import error_handlers
from services.ingress.routes.auth_dependencies import Deps, Reader, Writer
from services.ingress.routes.files import FORM
from services.ingress.routes.honored_headers import honors
from services.ingress.routes.objects import writable_ref
from shared.errors import Rejected
from shared.storage import ObjectRef

router = APIRouter(tags=["digests"])

MAX_QUESTION_BYTES: Final = 4 << 10
UPLOADS: Final = ("/uploadfile/", "/uploadfile")
ROOTS: Final = ("", "/get_hash")
SHOWN: Final = frozenset({"/gethash/", "/gethash/{file_id}"})
"""The paths in the OpenAPI document; the others are for old clients."""

Algorithms = Annotated[list[str], Query(description="Digests beside the default ones; several, or a list with commas.")]
FileId = Annotated[str, Query(description="What the upload answered; it may come in a JSON body too.")]
Algorithm = Annotated[str, Query(description="The algorithm of `hash` in the answer.")]

error_handlers.EXTRA_MEMBERS.update(dict.fromkeys(UPLOADS, upload_ids.FAILED_MEMBERS))


class UploadedFile(BaseModel):
    """A stored upload whose digests are being computed."""

    success: bool
    id: str
    celery_status: upload_status.Status
    celery_id: str
    bucket: str
    key: str
    etag: str
    size: int


class DigestStatus(BaseModel):
    """An upload's digests or its progress; only status and hash for an unknown id."""

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
@honors(CONDITION_HEADERS | OBJECT_HEADERS | {"repr-digest"})
async def upload_file(request: Request, principal: Writer, deps: Deps, algorithm: Algorithms = []) -> UploadedFile:  # noqa: B006
    """Store the file in field `file`; return the id to read its digests by."""
    return await store_upload(request, principal, deps, algorithm)


async def store_upload(
    request: Request, principal: Principal, deps: Dependencies, algorithms: list[str]
) -> UploadedFile:
    """Store the file of a form under a new id; needs only the store."""
    upload_id = upload_ids.new_upload_id()
    settings = deps.settings

    def choose_ref(file: File, _: Mapping[str, str]) -> ObjectRef:
        return writable_ref(settings.upload_bucket, upload_ids.upload_key(upload_id, file.filename), principal, deps)

    metadata = upload_ids.upload_metadata(principal.id, algorithms, settings.hasher_digests)
    headers = ObjectHeaders.of_form(request.headers.raw).with_metadata(metadata)
    done = await deps.uploads.store_form(Body(request, settings), choose_ref, field="file", headers=headers)
    ref = done.info.ref
    return UploadedFile(
        success=True,
        id=upload_id,
        celery_status="PENDING",
        celery_id=upload_id,
        bucket=ref.bucket,
        key=ref.key,
        etag=done.info.etag,
        size=done.info.size,
    )


async def get_hash(
    request: Request, principal: Reader, file_id: FileId = "", algorithm: Algorithm = upload_status.ALGORITHM
) -> JSONResponse:
    """Return an upload's digest: PENDING until it is done, with phase and progress; SUCCESS, FAILURE, INVALID_ID."""
    # not a dependency: FastAPI would run it in a thread, and this route serves hundreds of requests per second
    deps = dependencies_of(request)
    upload_id = file_id or await _id_in_body(request, deps)
    return JSONResponse(await status_of(upload_id, algorithm, principal, deps))


async def get_hash_of(
    request: Request, file_id: str, principal: Reader, algorithm: Algorithm = upload_status.ALGORITHM
) -> JSONResponse:
    """Return an upload's digest or progress, with the id in the path."""
    return JSONResponse(await status_of(file_id, algorithm, principal, dependencies_of(request)))


async def status_of(id: str, algorithm: str, principal: Principal, deps: Dependencies) -> dict[str, Any]:  # noqa: A002
    """Return the status of the upload `id`; uploads of others do not exist for `principal`.

    Raises Rejected: UNKNOWN_DIGEST, NOT_COMPUTED.
    """
    upload = await find_visible(id, principal, deps)
    return upload_status.render_digest(upload, algorithm) if upload else upload_status.render_invalid_id()


async def find_visible(id: str, principal: Principal, deps: Dependencies) -> upload_status.Upload | None:  # noqa: A002
    """Return the upload `id` if `principal` may see it."""
    return await find_upload(id, principal, views=deps.views, store=deps.store, bucket=deps.settings.upload_bucket)


@router.get("/links/{id}")
async def get_links(id: str, principal: Reader, deps: Deps) -> dict[str, Any]:  # noqa: A002 - the name in the path
    """Follow an upload from its id to the object, the event, the work and the result."""
    upload = await find_visible(id, principal, deps)
    if upload is None:
        raise HttpProblem("NOT_FOUND", "there is no upload with this id: check it, and the token it was made with")
    return upload_status.render_links(upload)


async def _id_in_body(request: Request, deps: Dependencies) -> str:
    """Return the id in a JSON body; empty without a body."""
    if not has_body(request):
        return ""
    raw = await Body(request, deps.settings).read_all(MAX_QUESTION_BYTES)
    try:
        members = json.loads(raw)
    except (ValueError, RecursionError):
        raise Rejected("BROKEN_BODY", 'the body is no JSON: send {"file_id": ID}') from None
    return str(members.get("file_id", "")) if isinstance(members, dict) else ""


_SPELLINGS: Final[Mapping[str, Callable[..., Any]]] = {
    "/gethash/": get_hash,
    "/gethash": get_hash,
    "/gethash/{file_id}": get_hash_of,
    "/gethash/{file_id}/": get_hash_of,
}
for _path, _answer in ((f"{root}{path}", answer) for root in ROOTS for path, answer in _SPELLINGS.items()):
    for _method in ("GET", "POST"):
        router.add_api_route(
            _path, _answer, methods=[_method], response_model=DigestStatus, include_in_schema=_path in SHOWN
        )
