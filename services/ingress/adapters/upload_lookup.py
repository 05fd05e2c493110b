"""The object behind an id: in the views, and before anybody has recorded it, in the store."""

from contextlib import aclosing
from dataclasses import replace

from services.ingress.adapters.views import Views
from services.ingress.core.access import Principal
from services.ingress.core.listing import seen_prefixes
from services.ingress.core.upload_ids import OWNER, folder_of, is_id
from services.ingress.core.upload_status import Upload
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore


async def find(id: str, who: Principal, *, views: Views, store: ObjectStore, bucket: str) -> Upload | None:  # noqa: A002
    """Return what is known of the upload `id`; None where there is none, or none of `who`, for the same work."""
    if not (is_id(id) and seen_prefixes(who.places, bucket, folder_of(id))):
        return None
    found = await views.upload(bucket, id)
    if found is not None and found.state is not None and found.is_for(who):
        return found
    # from here on the store is asked twice, whether there is nothing or something of another
    stored = await _stored(id, bucket, store)
    if found is None:
        found = stored
    elif found.state is None:
        found = replace(found, owner=stored.owner if stored else None)
    return found if found is not None and found.is_for(who) else None


async def _stored(id: str, bucket: str, store: ObjectStore) -> Upload | None:  # noqa: A002
    """Look for an object whose notification is still under way."""
    info = await _first(bucket, folder_of(id), store)
    if info is None:
        await _first(bucket, folder_of(id), store)  # in place of the look at an object's owner, which takes as long
        return None
    ref = ObjectRef(bucket, info.ref.key)
    return Upload(id, bucket, ref.key, owner=await _owner(ref, store), etag=info.etag, size=info.size)


async def _first(bucket: str, prefix: str, store: ObjectStore) -> ObjectInfo | None:
    # closed here, not when the collector comes by
    async with aclosing(store.list(bucket, prefix=prefix, page_size=1)) as pages:  # type: ignore[type-var]
        async for page in pages:
            return page[0] if page else None
    return None


async def _owner(ref: ObjectRef, store: ObjectStore) -> str | None:
    try:
        return (await store.head(ref)).metadata.get(OWNER)
    except ObjectGone:
        return None
