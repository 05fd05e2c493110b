"""Multipart uploads directly to the object store: begin, sign, send, complete; or resume."""

from datetime import datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.ingress.adapters.multipart_uploads import SIGNED_SECONDS
from services.ingress.core import upload_ids
from services.ingress.core.access import Principal
from services.ingress.core.multipart_tickets import MAX_PARTS, Ticket
from services.ingress.core.names import safe_key
from services.ingress.dependencies import Dependencies
from services.ingress.routes.auth_dependencies import Deps, Writer
from services.ingress.routes.json_route import JsonRoute
from services.ingress.routes.objects import Stored, writable_ref
from shared.errors import Rejected

log = structlog.get_logger()
router = APIRouter(route_class=JsonRoute, prefix="/multipart", tags=["uploads in parts"])

Id = Annotated[str, Path(max_length=4096, description="The ticket that the beginning answered.")]


class MultipartRequest(BaseModel):
    """The object to upload: by `key`, or by `filename` for an upload whose digests are read by id."""

    model_config = ConfigDict(extra="forbid")

    bucket: str | None = Field(None, description="An input bucket; without it, that of uploads.")
    key: str | None = None
    filename: str | None = None
    size: int = Field(gt=0, description="Bytes of the whole.")
    content_type: str | None = Field(None, pattern=r"^[ -~]{1,200}$")
    last_modified: int | None = Field(None, description="Of the file, in milliseconds since 1970; stored as `mtime`.")

    @model_validator(mode="after")
    def _require_one_name(self) -> "MultipartRequest":
        if (self.key is None) == (self.filename is None):
            raise ValueError("give either a key or a filename")
        return self


class SentPart(BaseModel):
    """A part that the store has."""

    number: int
    size: int


class MultipartUpload(BaseModel):
    """An upload on its way; its parts are `part_bytes` long, the last one may be shorter."""

    id: str
    file_id: str | None
    bucket: str
    key: str
    size: int
    part_bytes: int
    parts: int
    sent: list[SentPart]
    expires: datetime


class PartNumbers(BaseModel):
    """The parts that are to be sent next."""

    numbers: list[Annotated[int, Field(ge=1, le=MAX_PARTS)]] = Field(min_length=1, max_length=100)


class SignedParts(BaseModel):
    """The URL to PUT each part to, with exactly its bytes; URLs expire after `seconds`."""

    urls: dict[int, str]
    seconds: int


class CompletedUpload(Stored):
    """The completed object."""

    file_id: str | None


@router.post("", status_code=201)
async def begin(request: MultipartRequest, principal: Writer, deps: Deps) -> MultipartUpload:
    """Begin an upload; its ticket, `id`, is valid for a week and for this token only."""
    limit = deps.settings.max_upload_bytes
    if request.size > limit:
        raise Rejected("TOO_LARGE", f"the file has {request.size} bytes, and {limit} are allowed")
    file_id = upload_ids.new_upload_id() if request.filename is not None else None
    key = upload_ids.upload_key(file_id, request.filename or "") if file_id else safe_key(request.key or "")
    ref = writable_ref(request.bucket or deps.settings.upload_bucket, key, principal, deps)
    async with deps.uploads.admit():
        id, ticket = await deps.multipart.begin(  # noqa: A001 - the name in the API
            ref, request.size, principal.id, headers=_headers(request, principal), file_id=file_id
        )
    log.info("audit.upload_begun", by=principal.name, bucket=ref.bucket, key=ref.key, length=request.size)
    return _describe(id, ticket, [])


@router.get("/{id}")
async def get_upload(id: Id, principal: Writer, deps: Deps) -> MultipartUpload:  # noqa: A002
    """Return which parts have arrived, to resume an upload."""
    ticket = _find(id, principal, deps)
    sent = [SentPart(number=one.number, size=one.size) for one in await deps.multipart.sent(ticket)]
    return _describe(id, ticket, sent)


@router.post("/{id}/sign")
async def sign(id: Id, request: PartNumbers, principal: Writer, deps: Deps) -> SignedParts:  # noqa: A002
    """Return presigned URLs for these parts."""
    ticket = _find(id, principal, deps)
    if max(request.numbers) > ticket.parts:
        raise Rejected("BAD_REQUEST", f"the upload has {ticket.parts} parts: ask for those")
    async with deps.uploads.admit():
        return SignedParts(urls=deps.multipart.presign_parts(ticket, request.numbers), seconds=SIGNED_SECONDS)


@router.post("/{id}/complete")
async def complete(id: Id, principal: Writer, deps: Deps) -> CompletedUpload:  # noqa: A002
    """Make the object once every part is there; 409 names those that are missing."""
    ticket = _find(id, principal, deps)
    etag = await deps.multipart.complete(ticket)
    return CompletedUpload(bucket=ticket.bucket, key=ticket.key, etag=etag, size=ticket.size, file_id=ticket.file_id)


@router.delete("/{id}", status_code=204)
async def abort(id: Id, principal: Writer, deps: Deps) -> None:  # noqa: A002
    """Abort an upload and remove what was sent."""
    await deps.multipart.remove(_find(id, principal, deps))


def _find(id: str, principal: Principal, deps: Dependencies) -> Ticket:  # noqa: A002
    """Return the ticket of an upload, if its owner may still write there."""
    ticket = deps.multipart.find(id, principal.id)
    writable_ref(ticket.bucket, ticket.key, principal, deps)
    return ticket


def _headers(request: MultipartRequest, principal: Principal) -> dict[str, str]:
    metadata = {upload_ids.OWNER_KEY: principal.id}
    if request.last_modified is not None:
        metadata["mtime"] = f"{request.last_modified / 1000:.3f}"
    described = {f"x-amz-meta-{name}": text for name, text in metadata.items()}
    return {**described, "content-type": request.content_type or "application/octet-stream"}


def _describe(id: str, ticket: Ticket, sent: list[SentPart]) -> MultipartUpload:  # noqa: A002
    return MultipartUpload(
        id=id,
        file_id=ticket.file_id,
        bucket=ticket.bucket,
        key=ticket.key,
        size=ticket.size,
        part_bytes=ticket.part_bytes,
        parts=ticket.parts,
        sent=sent,
        expires=ticket.expires,
    )
