"""Detect keys that a store may resolve to another object.

MinIO reads `/a` as `a` and `a__XLDIR__` as `a/`, so a request returns another object; listings show true keys.
"""

from contextlib import aclosing

from shared.storage.objects import ObjectGone, ObjectRef
from shared.storage.port import ObjectStore


def is_ambiguous(key: str) -> bool:
    """Return whether a store may resolve `key` to an object with another key."""
    return key.startswith("/") or "__XLDIR__" in key


async def refuse_alias(store: ObjectStore, ref: ObjectRef) -> None:
    """Raise ObjectGone if the listing lacks this key; sends a request only for an ambiguous key."""
    if not is_ambiguous(ref.key):
        return
    pages = store.list(ref.bucket, prefix=ref.key, page_size=1)
    async with aclosing(pages):  # type: ignore[type-var]
        async for page in pages:
            if page and page[0].ref.key == ref.key:
                return
            break
    raise ObjectGone(f"{ref} is gone")
