"""The object store, asked what is true."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from services.ingest.core.decisions import Truth, Version
from services.ingest.core.sweeps import Listed
from shared.events import ObjectChanged, stable_id
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore


class Bucket:
    """The object store, asked what is true."""

    def __init__(self, store: ObjectStore, *, in_flight: int) -> None:
        self._store = store
        self._room = asyncio.Semaphore(in_flight)

    async def truths(self, versions: Iterable[Version]) -> dict[Version, Truth | None]:
        """Return what the bucket holds under each version now; None for what is not there."""
        wanted = list(set(versions))
        found = await asyncio.gather(*(self._look(ObjectRef(*one)) for one in wanted))
        return {
            one: None if info is None else Truth(info.etag, info.last_modified, info.ref.version_id)
            for one, info in zip(wanted, found, strict=True)
        }

    async def describe(self, bucket: str, keys: Iterable[str]) -> list[ObjectChanged]:
        """Return what is stored under `keys`, as a sweep's notices; what went meanwhile is left out."""
        infos = await asyncio.gather(*(self._look(ObjectRef(bucket, key)) for key in keys))
        return [_found(info) for info in infos if info is not None]

    async def pages(self, bucket: str, prefix: str) -> AsyncIterator[dict[str, Listed]]:
        """List a bucket page by page, keys in order."""
        async for page in self._store.list(bucket, prefix=prefix):
            if page:
                yield {one.ref.key: Listed(one.ref.key, one.etag, one.size, one.last_modified) for one in page}

    async def _look(self, ref: ObjectRef) -> ObjectInfo | None:
        async with self._room:
            try:
                return await self._store.head(ref)
            except ObjectGone:
                return None


def _found(info: ObjectInfo) -> ObjectChanged:
    ref = info.ref
    return ObjectChanged(
        change="stored",
        bucket=ref.bucket,
        key=ref.key,
        version_id=ref.version_id,
        etag=info.etag,
        size=info.size,
        content_type=info.content_type,
        metadata=dict(info.metadata),
        seen_by="sweep",
        occurred_at=info.last_modified,
        correlation_id=stable_id(ref.bucket, ref.key, ref.version_id, info.etag, info.last_modified),
    )
