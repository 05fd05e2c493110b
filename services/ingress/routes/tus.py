"""Resumable uploads by the tus protocol."""

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
from services.ingress.adapters.tus import PatchBody
from services.ingress.core import tus
from services.ingress.core.access import Principal
from services.ingress.core.conditions import Precondition
from services.ingress.core.problems import MEDIA_TYPE, HttpProblem
from services.ingress.core.tus import Checksum, ChecksumMismatch, Upload, UploadRequest
from services.ingress.core.write_headers import CONDITION_HEADERS, METHOD_OVERRIDE, TUS_HEADERS, header_map
from services.ingress.routes.auth_dependencies import Deps, Writer
from services.ingress.routes.honored_headers import honors
from services.ingress.routes.objects import writable_ref
from shared.errors import Rejected

VERSION_HEADERS: Final = {"tus-version": tus.VERSION}
Text = Annotated[str, Header()]
_PATCH_HEADERS: Final = frozenset({"upload-offset", "upload-checksum"})


class TusRoute(APIRoute):
    """A route whose every answer, errors included, names the protocol version."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Answer a checksum mismatch with status 460 of tus."""
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except ChecksumMismatch as error:
                return JSONResponse(error.document(), error.status, media_type=MEDIA_TYPE)

        return handled

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["tus-resumable"] = tus.VERSION
            await send(message)

        await super().handle(scope, receive, sending)


def require_version(request: Request, tus_resumable: Text = "") -> None:
    """Refuse a client of another version; OPTIONS needs none."""
    if tus_resumable != tus.VERSION and request.method != "OPTIONS":
        answer_headers = f"Tus-Resumable is {tus_resumable[:20]!r}: send {tus.VERSION}"
        raise HttpProblem("TUS_VERSION", answer_headers, headers=VERSION_HEADERS)


router = APIRouter(prefix="/tus", tags=["tus"], route_class=TusRoute, dependencies=[Depends(require_version)])


@router.options("", status_code=204, include_in_schema=False)
@router.options("/", status_code=204)
@router.options("/{upload_id}", status_code=204, include_in_schema=False)
async def describe(deps: Deps, _who: Writer) -> Response:
    """Say what is spoken here."""
    answer_headers = {
        **VERSION_HEADERS,
        "tus-extension": ",".join(tus.EXTENSIONS),
        "tus-max-size": str(deps.settings.max_upload_bytes),
        "tus-checksum-algorithm": ",".join(tus.ALGORITHMS),
    }
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=answer_headers)


@router.post("", status_code=201, include_in_schema=False)
@router.post("/", status_code=201)
@honors(TUS_HEADERS | CONDITION_HEADERS)
async def begin_upload(  # noqa: PLR0913, PLR0917 - the headers of the protocol
    request: Request,
    principal: Writer,
    deps: Deps,
    upload_length: Text = "",
    upload_metadata: Text = "",
    upload_checksum: Text = "",
) -> Response:
    """Begin an upload of `Upload-Length` bytes; `Upload-Metadata` may hold filename, filetype, bucket and key.

    If-Match, If-None-Match and If-Unmodified-Since decide, now and at the end, whether it may become an object (412).
    """
    precondition = Precondition.parse(header_map(request.headers.raw))
    async with deps.uploads.admit():
        upload = await _new_upload(upload_length, upload_metadata, precondition, principal, deps)
        await deps.tus.begin(upload)
        location = {"location": f"/tus/{upload.id}"}
        if request.headers.get("content-type") != tus.MEDIA_TYPE:
            return _answer(upload, HTTPStatus.CREATED, headers=location)
        patch = _patch_body("0", Body(request, deps.settings))
        _, offset = await deps.tus.append(upload.id, principal.id, patch, _checksum(upload_checksum))
        return _answer(upload, HTTPStatus.CREATED, offset, location)


@router.head("/{upload_id}")
async def get_offset(upload_id: str, principal: Writer, deps: Deps) -> Response:
    """Return how many bytes an upload has."""
    async with deps.listings.hold():
        upload, offset = await deps.tus.get_offset(upload_id, principal.id)
    answer_headers = {"upload-length": str(upload.length), "cache-control": "no-store"}
    return _answer(
        upload,
        HTTPStatus.OK,
        offset,
        answer_headers | ({"upload-metadata": upload.metadata_header} if upload.metadata_header else {}),
    )


@router.patch("/{upload_id}", status_code=204)
@honors(_PATCH_HEADERS)
async def append_to_upload(  # noqa: PLR0913, PLR0917 - the headers of the protocol
    request: Request,
    upload_id: str,
    principal: Writer,
    deps: Deps,
    upload_offset: Text = "",
    upload_checksum: Text = "",
) -> Response:
    """Append the body at `Upload-Offset`; bytes that arrived before a disconnect are stored."""
    if request.headers.get("content-type") != tus.MEDIA_TYPE:
        raise Rejected("WRONG_TYPE", f"the body is not of the type {tus.MEDIA_TYPE}: send it as that")
    body = Body(request, deps.settings)
    patch, checksum = _patch_body(upload_offset, body), _checksum(upload_checksum)
    async with deps.uploads.admit(body):
        upload, offset = await deps.tus.append(upload_id, principal.id, patch, checksum)
    return _answer(upload, HTTPStatus.NO_CONTENT, offset)


@router.delete("/{upload_id}", status_code=204)
@honors(TUS_HEADERS)  # clients may send the same headers with every request; they do not affect a removal
async def end_upload(upload_id: str, principal: Writer, deps: Deps) -> Response:
    """Abort an upload and remove what was sent."""
    async with deps.listings.hold():
        await deps.tus.remove(upload_id, principal.id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post("/{upload_id}", status_code=204, include_in_schema=False)
@honors(_PATCH_HEADERS | {METHOD_OVERRIDE})
async def override_method(  # noqa: PLR0913, PLR0917 - as the methods it replaces
    request: Request,
    upload_id: str,
    principal: Writer,
    deps: Deps,
    x_http_method_override: Text = "",
    upload_offset: Text = "",
    upload_checksum: Text = "",
) -> Response:
    """Handle PATCH and DELETE for clients whose proxies block these methods."""
    if x_http_method_override == "PATCH":
        return await append_to_upload(request, upload_id, principal, deps, upload_offset, upload_checksum)
    if x_http_method_override == "DELETE":
        return await end_upload(upload_id, principal, deps)
    raise HttpProblem(
        "METHOD_NOT_ALLOWED", "an upload takes HEAD, PATCH and DELETE", headers={"allow": "HEAD,PATCH,DELETE"}
    )


async def _new_upload(
    length: str, metadata: str, precondition: Precondition, principal: Principal, deps: Deps
) -> Upload:
    request = UploadRequest.of(length, metadata, deps.settings.max_upload_bytes)
    ref = writable_ref(request.metadata.get("bucket") or deps.settings.upload_bucket, request.key, principal, deps)
    required = await deps.uploads.required_etag(ref, precondition)
    return request.to_upload(
        ref.bucket, ref.key, owner=principal.id, by=principal.name, ttl=deps.tus.ttl, required=required
    )


def _patch_body(offset: str, body: Body) -> PatchBody:
    at = tus.parse_byte_count(offset, "Upload-Offset", "BAD_OFFSET")
    return PatchBody(at, body.length, body.chunks(), is_checked=body.is_checked)


def _checksum(text: str) -> Checksum | None:
    return Checksum.of(text) if text else None


def _answer(
    upload: Upload, status: HTTPStatus, offset: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    answer_headers = {"upload-expires": format_datetime(upload.expires, usegmt=True), **(headers or {})}
    return Response(
        status_code=status, headers=answer_headers | ({} if offset is None else {"upload-offset": str(offset)})
    )
