"""The object store, asked what is true."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from os.path import commonprefix
from typing import Final

from services.ingest.core.decisions import Truth, Version, version_of
from services.ingest.core.sweeps import Listed
from shared.events import ObjectChanged, stable_id
from shared.storage import PAGE, ObjectGone, ObjectInfo, ObjectRef, ObjectStore

LISTING_PAYS: Final = 16
"""Questions for which a page of a listing, twice as many objects, costs less than as many HEADs (measured)."""


class Bucket:
    """The object store, asked what is true."""

    def __init__(self, store: ObjectStore, *, in_flight: int) -> None:
        self._store = store
        self._room = asyncio.Semaphore(in_flight)

    async def truths(self, notices: Iterable[ObjectChanged]) -> dict[Version, Truth | None]:
        """Return what the bucket holds now where the notices happened; None for what is not there."""
        asked = {version_of(one): one for one in notices}
        found: dict[Version, Truth | None] = {}
        for bucket, keys in _listable(asked).items():
            if len(keys) >= LISTING_PAYS:
                found.update(await self._listed(bucket, sorted(keys)))
        rest = [one for one in asked if one not in found]
        infos = await asyncio.gather(*(self._look(ObjectRef(*one)) for one in rest))
        return found | {
            one: None if info is None else Truth(info.etag, info.last_modified, info.ref.version_id)
            for one, info in zip(rest, infos, strict=True)
        }

    async def _listed(self, bucket: str, keys: list[str]) -> dict[Version, Truth | None]:
        """Answer what a listing answers cheaper: pages from the first key on, while they hold what was asked."""
        wanted = set(keys)
        found: dict[Version, Truth | None] = {}
        prefix = commonprefix(keys)  # noqa: RUF071 - S3's prefixes are of characters, not of folders
        pages = self._store.list(bucket, prefix=prefix, start_after=keys[0][:-1], page_size=min(PAGE, 2 * len(keys)))
        async with aclosing(pages):  # type: ignore[type-var]
            async for page in pages:
                hits = [info for info in page if info.ref.key in wanted]
                found.update({(bucket, one.ref.key, None): Truth(one.etag, one.last_modified) for one in hits})
                if len(hits) < LISTING_PAYS or page[-1].ref.key >= keys[-1]:
                    break
        return found

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


def _listable(asked: Mapping[Version, ObjectChanged]) -> dict[str, list[str]]:
    """Return the keys of each bucket that a listing can answer for; it knows nothing of versions."""
    keys = defaultdict(list)
    for (bucket, key, version_id), notice in asked.items():
        if version_id is None and notice.version_id is None:
            keys[bucket].append(key)
    return keys


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
