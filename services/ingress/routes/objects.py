"""Raw objects: put, get, describe and remove by bucket and key."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from services.ingress.adapters.bodies import Body
from services.ingress.adapters.listing import list_page
from services.ingress.core.access import Principal
from services.ingress.core.conditions import Precondition
from services.ingress.core.listing import visible_prefixes
from services.ingress.core.names import existing_key, safe_key
from services.ingress.core.write_headers import CONDITION_HEADERS, OBJECT_HEADERS, ObjectHeaders, header_map
from services.ingress.routes.auth_dependencies import Deps, Reader, Writer
from services.ingress.routes.honored_headers import honors
from shared.errors import Rejected
from shared.storage import PAGE_SIZE, ObjectInfo, ObjectRef

log = structlog.get_logger()
router = APIRouter(prefix="/objects", tags=["objects"])

Bucket = Annotated[
    str,
    Path(
        description="An input bucket, or an output bucket to read from.", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
    ),
]
Key = Annotated[str, Path(description="The object's key; slashes are part of it.")]
PARAMETERS = frozenset({"token", "csrf", "x-id"})
"""Query parameters that a write may have; S3 SDKs add the operation's name."""


class Stored(BaseModel):
    """An object as the store has it now."""

    bucket: str
    key: str
    etag: str
    size: int


class Listed(BaseModel):
    """An object of a listing."""

    key: str
    etag: str
    size: int
    last_modified: datetime


class Listing(BaseModel):
    """A page of a listing, in key order; `next` is what to start the next one after, null at the end."""

    bucket: str
    prefix: str
    objects: list[Listed]
    folders: list[str]
    next: str | None


@router.get("/{bucket}")
async def list_objects(  # noqa: PLR0913 - the query parameters
    bucket: Bucket,
    principal: Reader,
    deps: Deps,
    *,
    prefix: str = "",
    start_after: str = "",
    limit: Annotated[int, Query(ge=1, le=PAGE_SIZE)] = PAGE_SIZE,
    delimiter: Annotated[str, Query(max_length=16)] = "",
) -> Listing:
    """List a bucket in pages; with a delimiter, keys are grouped into folders."""
    _require_readable(bucket, principal, deps)
    async with deps.listings.hold():
        page = await list_page(
            deps.store,
            bucket,
            visible_prefixes(principal.prefixes, bucket, prefix),
            prefix=prefix,
            start_after=start_after,
            limit=limit,
            delimiter=delimiter,
        )
    objects = [
        Listed(key=one.ref.key, etag=one.etag, size=one.size, last_modified=one.last_modified) for one in page.objects
    ]
    return Listing(bucket=bucket, prefix=prefix, objects=objects, folders=page.folders, next=page.next)


@router.get("/{bucket}/{key:path}", response_class=Response)
@router.head("/{bucket}/{key:path}", response_class=Response)
async def get_object(bucket: Bucket, key: Key, principal: Reader, deps: Deps) -> Response:
    """Download an object: whole, as a range, or 304."""
    _require_readable(bucket, principal, deps)
    return deps.downloads.of(ObjectRef(bucket, existing_key(key)), principal)


@router.delete("/{bucket}/{key:path}", status_code=204)
@honors(CONDITION_HEADERS)
async def delete_object(request: Request, bucket: Bucket, key: Key, principal: Writer, deps: Deps) -> None:
    """Remove an object of an input bucket; with `If-Match`, only the version that it names (412)."""
    _require_no_subresource(request)
    require_bucket(bucket, deps.settings.input_buckets, principal)
    ref, precondition = ObjectRef(bucket, existing_key(key)), Precondition.parse(header_map(request.headers.raw))
    async with deps.listings.hold():
        required = await deps.uploads.required_etag(ref, precondition) if principal.sees(bucket, ref.key) else None
        await deps.downloads.described(ref, principal)
        await deps.store.delete(ref, if_match=required)
    log.info("audit.object_removed", by=principal.name, bucket=bucket, key=key)


@router.put("/{bucket}/{key:path}", status_code=201)
@honors(CONDITION_HEADERS | OBJECT_HEADERS | {"content-encoding", "repr-digest"})
async def put_object(request: Request, bucket: Bucket, key: Key, principal: Writer, deps: Deps) -> Stored:
    """Store the request's body as an object, whole or not at all.

    Kept with it are its type, `x-amz-meta-` headers, Content-Encoding, -Language and -Disposition, Cache-Control and
    Expires. Checked are Content-MD5, Content-Digest, Repr-Digest and `x-amz-checksum-` headers (400). If-Match,
    If-None-Match and If-Unmodified-Since decide whether it may be stored (412).
    """
    _require_no_subresource(request)
    ref = writable_ref(bucket, safe_key(key), principal, deps)
    headers = ObjectHeaders.of_body(request.headers.raw)
    return stored_object(await deps.uploads.store_body(Body(request, deps.settings), ref, headers), ref)


def _require_no_subresource(request: Request) -> None:
    """Refuse parameters by which S3 means something else than the object: a version, a part, its tags."""
    if other := sorted(set(request.query_params) - PARAMETERS):
        raise Rejected(
            "PARAMETER_REFUSED",
            f"the address has the parameter {other[0][:40]!r}, unknown here: leave it out",
        )


def _require_readable(bucket: str, principal: Principal, deps: Deps) -> None:
    require_bucket(bucket, deps.settings.input_buckets + deps.settings.output_buckets, principal)


def require_bucket(bucket: str, buckets: Collection[str], principal: Principal) -> None:
    """Refuse a bucket that is not in `buckets`, or of which `principal` sees nothing.

    Raises Rejected: NO_SUCH_BUCKET.
    """
    if bucket not in buckets or not visible_prefixes(principal.prefixes, bucket, ""):
        raise Rejected("NO_SUCH_BUCKET", f"there is no bucket {bucket} that you may use for this: check its name")


def writable_ref(bucket: str, key: str, principal: Principal, deps: Deps) -> ObjectRef:
    """Return the object if `principal` may write it; otherwise it does not exist for it."""
    if bucket not in deps.settings.input_buckets or not principal.sees(bucket, key):
        raise Rejected(
            "NO_SUCH_BUCKET", f"there is no bucket {bucket} that takes this object: name an input bucket of yours"
        )
    return ObjectRef(bucket, key)


def stored_object(info: ObjectInfo, ref: ObjectRef) -> Stored:
    """Describe an object to a client."""
    return Stored(bucket=ref.bucket, key=ref.key, etag=info.etag, size=info.size)
