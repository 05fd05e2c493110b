"""The documentation of the API, to read and to try out, from files of our own."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.ingress.core.navigation import NavigationEntry
from services.ingress.routes.auth_dependencies import Authenticated
from services.ingress.routes.rendering import render

NAVIGATION = (NavigationEntry("API", "/docs", "code", 90),)
router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request, _who: Authenticated) -> Response:
    """Show the documentation."""
    return render(request, "docs.html", document=request.app.openapi_url)
