"""Find an upload by id: in the views, or in the store if it is not recorded yet."""

from contextlib import aclosing
from dataclasses import replace

from services.ingress.adapters.views import Views
from services.ingress.core.access import Principal
from services.ingress.core.listing import visible_prefixes
from services.ingress.core.upload_ids import OWNER_KEY, is_upload_id, upload_prefix
from services.ingress.core.upload_status import Upload
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore


async def find_upload(id: str, principal: Principal, *, views: Views, store: ObjectStore, bucket: str) -> Upload | None:  # noqa: A002
    """Return the upload `id`; None if it does not exist or belongs to another owner, in the same time."""
    if not (is_upload_id(id) and visible_prefixes(principal.prefixes, bucket, upload_prefix(id))):
        return None
    found = await views.upload(bucket, id)
    if found is not None and found.state is not None and found.is_for(principal):
        return found
    # from here on two store requests in every case, so that timing reveals no foreign upload
    in_store = await _find_in_store(id, bucket, store)
    if found is None:
        found = in_store
    elif found.state is None:
        found = replace(found, owner=in_store.owner if in_store else None)
    return found if found is not None and found.is_for(principal) else None


async def _find_in_store(id: str, bucket: str, store: ObjectStore) -> Upload | None:  # noqa: A002
    """Look for an object whose notification has not arrived yet."""
    info = await _first_object(bucket, upload_prefix(id), store)
    if info is None:
        await _first_object(bucket, upload_prefix(id), store)  # in place of reading the owner, which takes as long
        return None
    ref = ObjectRef(bucket, info.ref.key)
    return Upload(id, bucket, ref.key, owner=await _read_owner(ref, store), etag=info.etag, size=info.size)


async def _first_object(bucket: str, prefix: str, store: ObjectStore) -> ObjectInfo | None:
    # closed here, not by the garbage collector
    async with aclosing(store.list(bucket, prefix=prefix, page_size=1)) as pages:  # type: ignore[type-var]
        async for page in pages:
            return page[0] if page else None
    return None


async def _read_owner(ref: ObjectRef, store: ObjectStore) -> str | None:
    try:
        return (await store.head(ref)).metadata.get(OWNER_KEY)
    except ObjectGone:
        return None
