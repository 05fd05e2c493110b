"""Static files with their content hash in the URL, so that caches may store them forever."""

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER: Final = Path(__file__).parents[1] / "static"
PATH: Final = "/static"
FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file in memory."""

    body: bytes
    media_type: str | None
    version: str


@cache
def assets() -> dict[str, Asset]:
    """Return every static file by name; read once, so unauthenticated requests cause no disk reads."""
    found = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    return {
        name: Asset(body, mimetypes.guess_type(name)[0], hashlib.sha256(body).hexdigest()[:16])
        for name, body in found.items()
    }


def asset(name: str) -> str:
    """Return the URL of a static file with its version."""
    return f"{PATH}/{name}?v={assets()[name].version}"


class Assets(StaticFiles):
    """Serve static files from memory; a request without the current version in the URL must revalidate."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)
        self.config_checked = True

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with the file, or with 304 if the client's ETag matches."""
        if scope["method"] not in {"GET", "HEAD"}:
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)
        found = assets().get(path)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        is_right = QueryParams(scope["query_string"]).get("v") == found.version
        headers = {"etag": f'"{found.version}"', "cache-control": FOR_EVER if is_right else "no-cache"}
        known = Headers(scope=scope).get("if-none-match", "")
        if found.version in known:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(found.body, headers=headers, media_type=found.media_type)
