"""Styles and scripts, from files of our own: their address holds what they contain, so that caches may keep them."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER: Final = Path(__file__).parents[1] / "static"
PATH: Final = "/static"
FOR_EVER: Final = "public, max-age=31536000, immutable"


@cache
def version(name: str) -> str:
    """Return what changes with the file's content."""
    return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:16]


def asset(name: str) -> str:
    """Return the address of a file of ours."""
    return f"{PATH}/{name}?v={version(name)}"


class Assets(StaticFiles):
    """Serves the files; without the right version in the address they are asked for anew each time."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file, or with 304 to who has it."""
        response = await super().get_response(path, scope)
        asked = QueryParams(scope["query_string"]).get("v")
        is_right = asked is not None and asked == version(path)
        response.headers["cache-control"] = FOR_EVER if is_right else "no-cache"
        return response
