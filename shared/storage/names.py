"""Keys that a store may take for the key of another object.

MinIO reads `/a` as `a` and `a__XLDIR__` as `a/`, so an object of another name answers. The listing shows its true name.
"""

from contextlib import aclosing

from shared.storage.objects import ObjectGone, ObjectRef, ObjectStore


def is_ambiguous(key: str) -> bool:
    """Whether a store may answer with an object of another key."""
    return key.startswith("/") or "__XLDIR__" in key


async def refuse_alias(store: ObjectStore, ref: ObjectRef) -> None:
    """Raise ObjectGone for a key that the listing does not show; costs a request only where a key is ambiguous."""
    if not is_ambiguous(ref.key):
        return
    pages = store.list(ref.bucket, prefix=ref.key, page_size=1)
    async with aclosing(pages):  # type: ignore[type-var]
        async for page in pages:
            if page and page[0].ref.key == ref.key:
                return
            break
    raise ObjectGone(f"{ref} is gone")
