"""Render pages with the values that every page needs."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.ingress.adapters.templates import render_template
from services.ingress.core.access import Principal
from services.ingress.routes.auth_dependencies import csrf_of


def render(
    request: Request,
    name: str,
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """Answer with the page `name`; not cacheable."""
    principal: Principal | None = getattr(request.state, "principal", None)
    text = render_template(
        name,
        path=request.url.path,
        csrf=csrf_of(request),
        principal=principal,
        may_write=principal is not None and principal.may("write"),
        may_read=principal is not None and principal.may("read"),
        navigation=request.app.state.navigation,
        **values,
    )
    return HTMLResponse(text, status, {"cache-control": "no-store", **(headers or {})})


def wants_page(request: Request) -> bool:
    """Return whether the client accepts HTML."""
    return "text/html" in request.headers.get("accept", "")
