"""Raw objects: put, get, describe and remove by bucket and key."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel

from services.ingress.adapters.bodies import Body
from services.ingress.core.access import Principal
from services.ingress.core.names import safe_key
from services.ingress.routes.guard import Through, WriterOf
from shared.errors import Rejected
from shared.storage import ObjectInfo, ObjectRef

router = APIRouter(prefix="/objects", tags=["objects"])

Bucket = Annotated[str, Path(description="One of the input buckets.", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
Key = Annotated[str, Path(description="The object's key; slashes are part of it.")]
META = "x-amz-meta-"


class Stored(BaseModel):
    """An object as the store has it now."""

    bucket: str
    key: str
    etag: str
    size: int


@router.put("/{bucket}/{key:path}", status_code=201)
async def put_object(request: Request, bucket: Bucket, key: Key, who: WriterOf, through: Through) -> Stored:
    """Store the request's body as an object, whole or not at all; `x-amz-meta-` headers are kept with it."""
    ref = place(bucket, safe_key(key), who, through)
    metadata = {n.removeprefix(META): v for n, v in request.headers.items() if n.startswith(META)}
    content_type = request.headers.get("content-type")
    body = Body(request, through.settings)
    return told(await through.uploads.whole(body, ref, content_type=content_type, metadata=metadata), ref)


def place(bucket: str, key: str, who: Principal, through: Through) -> ObjectRef:
    """Return where `who` may write; what it may not see does not exist for it."""
    if bucket not in through.settings.input_buckets or not who.sees(bucket, key):
        raise Rejected("NO_SUCH_BUCKET", f"there is no bucket {bucket} that takes this object")
    return ObjectRef(bucket, key)


def told(info: ObjectInfo, ref: ObjectRef) -> Stored:
    """Describe an object to a client."""
    return Stored(bucket=ref.bucket, key=ref.key, etag=info.etag, size=info.size)
