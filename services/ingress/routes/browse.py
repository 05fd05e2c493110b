"""The page of stored files; registered before `files`, whose route matches the same path."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.ingress.adapters.listing import list_page
from services.ingress.core.listing import visible_prefixes
from services.ingress.core.navigation import NavigationEntry
from services.ingress.routes.auth_dependencies import Deps, Reader
from services.ingress.routes.files import FOLDER
from services.ingress.routes.rendering import render

NAVIGATION = (NavigationEntry("Files", "/files/", "file", 20),)
PAGE_SIZE = 100
router = APIRouter(include_in_schema=False)


@router.get("/files/")
async def show_files(
    request: Request,
    principal: Reader,
    deps: Deps,
    after: Annotated[str, Query(max_length=1024)] = "",
    stored: Annotated[str, Query(max_length=1024)] = "",
) -> Response:
    """Show the stored files by name, and the upload form."""
    bucket = deps.settings.upload_bucket
    async with deps.listings.hold():
        page = await list_page(
            deps.store,
            bucket,
            visible_prefixes(principal.prefixes, bucket, FOLDER),
            prefix=FOLDER,
            start_after=FOLDER + after if after else "",
            limit=PAGE_SIZE,
            delimiter="",
        )
    shown = [(one.ref.key.removeprefix(FOLDER), one) for one in page.objects]
    following = page.next.removeprefix(FOLDER) if page.next else ""
    return render(request, "files.html", files=shown, next=following, after=after, stored=stored)
