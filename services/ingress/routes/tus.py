"""Resumable uploads by the tus protocol: whoever is cut off asks how far it came, and goes on from there."""

from collections.abc import Callable, Coroutine, MutableMapping
from email.utils import format_datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from services.ingress.adapters.bodies import Body
from services.ingress.adapters.tus import Piece
from services.ingress.core import tus
from services.ingress.core.access import Principal
from services.ingress.core.conditions import Precondition
from services.ingress.core.problems import MEDIA_TYPE, Problem
from services.ingress.core.tus import Checksum, Mismatch, Upload, Wanted
from services.ingress.core.write_headers import CONDITIONS, OF_TUS, OVERRIDE, named
from services.ingress.routes.auth_dependencies import Through, WriterOf
from services.ingress.routes.honored_headers import honors
from services.ingress.routes.objects import place
from shared.errors import Rejected

SPOKEN: Final = {"tus-version": tus.VERSION}
Text = Annotated[str, Header()]
_OF_PIECES: Final = frozenset({"upload-offset", "upload-checksum"})


class TusRoute(APIRoute):
    """A route whose every answer, an error too, says which protocol it speaks."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Tell wrong bytes by the status that tus alone has."""
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except Mismatch as error:
                return JSONResponse(error.document(), error.status, media_type=MEDIA_TYPE)

        return handled

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["tus-resumable"] = tus.VERSION
            await send(message)

        await super().handle(scope, receive, sending)


def spoken(request: Request, tus_resumable: Text = "") -> None:
    """Refuse a client of another version; whoever asks what is spoken need not know."""
    if tus_resumable != tus.VERSION and request.method != "OPTIONS":
        told = f"Tus-Resumable is {tus_resumable[:20]!r}: send {tus.VERSION}"
        raise Problem("TUS_VERSION", told, headers=SPOKEN)


router = APIRouter(prefix="/tus", tags=["tus"], route_class=TusRoute, dependencies=[Depends(spoken)])


@router.options("", status_code=204, include_in_schema=False)
@router.options("/", status_code=204)
@router.options("/{upload_id}", status_code=204, include_in_schema=False)
async def describe(through: Through, _who: WriterOf) -> Response:
    """Say what is spoken here."""
    told = {
        **SPOKEN,
        "tus-extension": ",".join(tus.EXTENSIONS),
        "tus-max-size": str(through.settings.max_upload_bytes),
        "tus-checksum-algorithm": ",".join(tus.ALGORITHMS),
    }
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=told)


@router.post("", status_code=201, include_in_schema=False)
@router.post("/", status_code=201)
@honors(OF_TUS | CONDITIONS)
async def begin_upload(  # noqa: PLR0913, PLR0917 - the headers of the protocol
    request: Request,
    who: WriterOf,
    through: Through,
    upload_length: Text = "",
    upload_metadata: Text = "",
    upload_checksum: Text = "",
) -> Response:
    """Begin an upload of `Upload-Length` bytes; `Upload-Metadata` may say filename, filetype, bucket and key.

    If-Match, If-None-Match and If-Unmodified-Since decide whether it may become an object, now and at its end (412).
    """
    precondition = Precondition.of(named(request.headers.raw))
    async with through.uploads.slot():
        upload = await _wanted(upload_length, upload_metadata, precondition, who, through)
        await through.tus.begin(upload)
        location = {"location": f"/tus/{upload.id}"}
        if request.headers.get("content-type") != tus.MEDIA_TYPE:
            return _told(upload, HTTPStatus.CREATED, headers=location)
        piece = _piece("0", Body(request, through.settings))
        _, offset = await through.tus.append(upload.id, who.id, piece, _checksum(upload_checksum))
        return _told(upload, HTTPStatus.CREATED, offset, location)


@router.head("/{upload_id}")
async def look_at_upload(upload_id: str, who: WriterOf, through: Through) -> Response:
    """Say how far an upload has come."""
    async with through.listings.hold():
        upload, offset = await through.tus.look(upload_id, who.id)
    told = {"upload-length": str(upload.length), "cache-control": "no-store"}
    return _told(upload, HTTPStatus.OK, offset, told | ({"upload-metadata": upload.told} if upload.told else {}))


@router.patch("/{upload_id}", status_code=204)
@honors(_OF_PIECES)
async def go_on(  # noqa: PLR0913, PLR0917 - the headers of the protocol
    request: Request,
    upload_id: str,
    who: WriterOf,
    through: Through,
    upload_offset: Text = "",
    upload_checksum: Text = "",
) -> Response:
    """Add the body's bytes at `Upload-Offset`; what came before a connection broke is kept."""
    if request.headers.get("content-type") != tus.MEDIA_TYPE:
        raise Rejected("WRONG_TYPE", f"the body is not of the type {tus.MEDIA_TYPE}: send it as that")
    body = Body(request, through.settings)
    piece, checksum = _piece(upload_offset, body), _checksum(upload_checksum)
    async with through.uploads.slot(body):
        upload, offset = await through.tus.append(upload_id, who.id, piece, checksum)
    return _told(upload, HTTPStatus.NO_CONTENT, offset)


@router.delete("/{upload_id}", status_code=204)
@honors(OF_TUS)  # clients may send the same headers with all of their requests: of what goes they say nothing
async def end_upload(upload_id: str, who: WriterOf, through: Through) -> Response:
    """Give up an upload and remove what was sent."""
    async with through.listings.hold():
        await through.tus.remove(upload_id, who.id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post("/{upload_id}", status_code=204, include_in_schema=False)
@honors(_OF_PIECES | {OVERRIDE})
async def overridden(  # noqa: PLR0913, PLR0917 - as the methods it stands for
    request: Request,
    upload_id: str,
    who: WriterOf,
    through: Through,
    x_http_method_override: Text = "",
    upload_offset: Text = "",
    upload_checksum: Text = "",
) -> Response:
    """Stand in for PATCH and DELETE, which some ways to here do not let pass."""
    if x_http_method_override == "PATCH":
        return await go_on(request, upload_id, who, through, upload_offset, upload_checksum)
    if x_http_method_override == "DELETE":
        return await end_upload(upload_id, who, through)
    raise Problem(
        "METHOD_NOT_ALLOWED", "an upload takes HEAD, PATCH and DELETE", headers={"allow": "HEAD,PATCH,DELETE"}
    )


async def _wanted(length: str, metadata: str, precondition: Precondition, who: Principal, through: Through) -> Upload:
    wanted = Wanted.of(length, metadata, through.settings.max_upload_bytes)
    ref = place(wanted.metadata.get("bucket") or through.settings.upload_bucket, wanted.key, who, through)
    required = await through.uploads.required(ref, precondition)
    return wanted.begun(ref.bucket, ref.key, owner=who.id, by=who.name, lasts=through.tus.lasts, required=required)


def _piece(offset: str, body: Body) -> Piece:
    at = tus.number_in(offset, "Upload-Offset", "BAD_OFFSET")
    return Piece(at, body.length, body.chunks(), is_checked=body.is_checked)


def _checksum(text: str) -> Checksum | None:
    return Checksum.of(text) if text else None


def _told(
    upload: Upload, status: HTTPStatus, offset: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    told = {"upload-expires": format_datetime(upload.expires, usegmt=True), **(headers or {})}
    return Response(status_code=status, headers=told | ({} if offset is None else {"upload-offset": str(offset)}))
