"""A path with a slash at its end, and without: one route serves both spellings.

Starlette's own way redirects to an absolute address under the name that the Host header says, whoever wrote that.
"""

from typing import Final

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

_SPELLED: Final = "penstock.other_spelling"


def install(app: FastAPI) -> None:
    """Let `app` look for a route by the other spelling of a path before it answers 404."""
    not_found = app.router.default

    async def other_spelling(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _SPELLED in scope:
            await not_found(scope, receive, send)
            return
        path = scope["path"]
        # the scope itself, for middleware outside reads from it which route it was
        scope.update({"path": path.rstrip("/") if path.endswith("/") else f"{path}/", _SPELLED: True})
        await app.router(scope, receive, send)

    app.router.default = other_spelling
