"""The page of kept files. Its path is that of a file without a name, so it stands before `files`, as the names do."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.ingress.adapters.listing import page_of
from services.ingress.core.listing import seen_prefixes
from services.ingress.core.navigation import Entry
from services.ingress.routes.auth_dependencies import Reader, Through
from services.ingress.routes.files import FOLDER
from services.ingress.routes.rendering import render

NAVIGATION = (Entry("Files", "/files/", "file", 20),)
SHOWN = 100
router = APIRouter(include_in_schema=False)


@router.get("/files/")
async def files(
    request: Request,
    who: Reader,
    through: Through,
    after: Annotated[str, Query(max_length=1024)] = "",
    stored: Annotated[str, Query(max_length=1024)] = "",
) -> Response:
    """Show the kept files by name, and the form that takes one."""
    bucket = through.settings.upload_bucket
    async with through.listings.hold():
        page = await page_of(
            through.store,
            bucket,
            seen_prefixes(who.places, bucket, FOLDER),
            prefix=FOLDER,
            start_after=FOLDER + after if after else "",
            limit=SHOWN,
            delimiter="",
        )
    shown = [(one.ref.key.removeprefix(FOLDER), one) for one in page.objects]
    following = page.next.removeprefix(FOLDER) if page.next else ""
    return render(request, "files.html", files=shown, next=following, after=after, stored=stored)
