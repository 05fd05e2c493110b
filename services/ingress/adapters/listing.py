"""Pages of a bucket's listing."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from services.ingress.core.listing import AFTER_ANY_KEY, folder_of, resume_after
from shared.storage import PAGE_SIZE, ObjectInfo, ObjectStore


@dataclass(slots=True)
class Page:
    """Objects and folders in key order; `next` is what the next page starts after, None at the end."""

    objects: list[ObjectInfo] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    next: str | None = None


async def list_page(  # noqa: PLR0913 - the parameters of one listing
    store: ObjectStore, bucket: str, prefixes: list[str], *, prefix: str, start_after: str, limit: int, delimiter: str
) -> Page:
    """List what is below `prefixes`, each of them below `prefix`; with a delimiter, group keys into folders."""
    page, last, size = Page(), "", min(PAGE_SIZE, limit + 1)
    after = resume_after(start_after, prefix, delimiter)
    for one in prefixes:
        async for found in _entries(
            store,
            bucket,
            beginning=one,
            prefix=prefix,
            after=after,
            delimiter=delimiter,
            page_size=size,
        ):
            name = found if isinstance(found, str) else found.ref.key
            if name == last:
                continue  # a folder that is below two of the prefixes
            if len(page.objects) + len(page.folders) == limit:
                page.next = last
                return page
            last = name
            if isinstance(found, str):
                page.folders.append(found)
            else:
                page.objects.append(found)
    return page


async def _entries(  # noqa: PLR0913 - the parameters of one listing
    store: ObjectStore, bucket: str, *, beginning: str, prefix: str, after: str, delimiter: str, page_size: int
) -> AsyncIterator[ObjectInfo | str]:
    """Yield objects and folders; the content of a folder is skipped with a new listing, not read."""
    while True:
        folder = None
        async for infos in store.list(bucket, prefix=beginning, start_after=after, page_size=page_size):
            for info in infos:
                if folder is not None and info.ref.key.startswith(folder):
                    continue
                folder = folder_of(info.ref.key, prefix, delimiter)
                yield info if folder is None else folder
            if folder is not None and len(infos) == page_size:
                after = folder + AFTER_ANY_KEY
                break
        else:
            return
