"""Replace everything under a prefix by a set of files, in the API of the former MinIO and Colab system."""

from typing import Annotated

from fastapi import APIRouter, Header, Request

from services.ingress.adapters.bodies import Body
from services.ingress.routes.auth_dependencies import Deps, Writer
from services.ingress.routes.files import BINARY, described
from services.ingress.routes.honored_headers import honors
from services.ingress.routes.objects import require_bucket

router = APIRouter(tags=["files"])

_FORM = described(files={"type": "array", "items": BINARY}, keys_prefix={"type": "string"})
BucketHeader = Annotated[str, Header(description="The input bucket that the prefix is in.")]


@router.post("/files/upload_minio", status_code=204, openapi_extra=_FORM)
@router.put("/files/upload_minio", status_code=204, openapi_extra=_FORM)
@honors(frozenset({"repr-digest"}))
async def upload_minio(request: Request, bucket: BucketHeader, principal: Writer, deps: Deps) -> None:
    """Replace everything under `keys_prefix` by the form's files, folders in names included, atomically."""
    require_bucket(bucket, deps.settings.input_buckets, principal)
    await deps.replacements.replace(Body(request, deps.settings), bucket, principal)
