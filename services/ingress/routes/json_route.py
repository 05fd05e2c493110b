"""Routes with JSON bodies, which are limited in size and in number."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from services.ingress.adapters.bodies import small_body
from services.ingress.dependencies import dependencies_of
from services.ingress.routes.forms import once_more

MAX_JSON_BYTES: Final = 256 << 10


class JsonRoute(APIRoute):
    """A route that reads its body with a size and time limit, which FastAPI itself lacks."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Read the body, and hand it on."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def handled(request: Request) -> Response:
            reached = dependencies_of(request)
            async with reached.bodies.hold():
                body = await small_body(request, reached.settings, MAX_JSON_BYTES)
            return await handler(Request(request.scope, once_more(body, request.receive)))

        return handled
