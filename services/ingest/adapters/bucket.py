"""The object store, asked what is true."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Final

import structlog

from services.ingest.core.decisions import Truth, Version, current_of, removed_version_of
from services.ingest.core.sweeps import Listed
from shared.errors import Kind, Outage, kind_of, one_line
from shared.events import ObjectChanged, stable_id
from shared.storage import PAGE_SIZE, ObjectGone, ObjectInfo, ObjectRef, ObjectStore, is_ambiguous, refuse_alias

log = structlog.get_logger()

LISTING_PAYS: Final = 16
"""Questions for which a page of a listing, twice as many objects, costs less than as many HEADs (measured)."""


LOOK_SECONDS: Final = 15.0
"""How long a question about one object may take."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """An object that cannot be looked at now, and why, while the store serves others."""

    reason: str


class Bucket:
    """The object store, asked what is true; with `describe`, also for what a fact is made of.

    No object holds up another: one that cannot be looked at while the store serves others is left for later.
    """

    def __init__(self, store: ObjectStore, *, in_flight: int, describe: bool = True) -> None:
        self._store = store
        self._room = asyncio.Semaphore(in_flight)
        self._describe = describe

    async def check(self) -> None:
        """Raise Outage while the store serves nobody."""
        await self._store.check()

    async def truths(self, notices: Iterable[ObjectChanged]) -> dict[Version, Truth | Stuck | None]:
        """Return what the bucket holds now where the notices happened; None for what is not there.

        What a removal asks about is always described: another version may be current again.
        """
        notices = tuple(notices)
        asked = {current_of(one): one for one in notices}
        found: dict[Version, Truth | Stuck | None] = {}
        for bucket, keys in _listable(asked).items():
            if len(keys) >= LISTING_PAYS:
                found.update(await self._listed(bucket, sorted(keys)))
        found |= await self._looked((one for one in asked if one not in found), describe=self._describe)
        named = {one for one in map(removed_version_of, notices) if one is not None}
        found |= await self._looked(named, describe=False)
        return found | await self._described(notices, found)

    async def _looked(self, versions: Iterable[Version], *, describe: bool) -> dict[Version, Truth | Stuck | None]:
        asked = list(versions)
        infos = await asyncio.gather(*(self._look(ObjectRef(*one)) for one in asked))
        return {
            one: _truth(info, describe=describe) if isinstance(info, ObjectInfo) else info
            for one, info in zip(asked, infos, strict=True)
        }

    async def _described(
        self, notices: Iterable[ObjectChanged], found: Mapping[Version, Truth | Stuck | None]
    ) -> dict[Version, Truth | Stuck | None]:
        """Look again at what has to be described and is not: older versions, and what is current after a removal."""
        asked = set()
        for one in notices:
            current = found[current_of(one)]
            if one.change == "removed" and isinstance(current, Truth) and not current.is_described:
                asked.add(current_of(one))
            if (
                one.change == "stored"
                and one.version_id
                and self._describe
                and not _is_version(current, one.version_id)
            ):
                asked.add((one.bucket, one.key, one.version_id))
        return await self._looked(asked, describe=True)

    async def _listed(self, bucket: str, keys: list[str]) -> dict[Version, Truth | Stuck | None]:
        """Answer what a listing answers cheaper: pages from the first key on, while they hold what was asked.

        A listing tells no versions; where the first object has one, each object is looked at.
        """
        first = await self._look(ObjectRef(bucket, keys[0])) if self._describe else None
        if isinstance(first, ObjectInfo) and first.ref.version_id is not None:
            return {}
        wanted = {key for key in keys if not is_ambiguous(key)}
        found: dict[Version, Truth | Stuck | None] = {}
        prefix = commonprefix(keys)  # noqa: RUF071 - S3's prefixes are of characters, not of folders
        size = min(PAGE_SIZE, 2 * len(keys))
        pages = self._store.list(
            bucket, prefix=prefix, start_after=keys[0][:-1], page_size=size, described=self._describe
        )
        with suppress(Outage):  # then each is looked at by itself, which tells an outage of the store
            async with aclosing(pages):  # type: ignore[type-var]
                async for page in pages:
                    hits = [info for info in page if info.ref.key in wanted]
                    if self._describe and not all(info.is_described for info in hits):
                        break
                    truths = {one.ref.key: _truth(one, describe=self._describe) for one in hits}
                    found.update({(bucket, key, None): truth for key, truth in truths.items()})
                    if len(hits) < LISTING_PAYS or page[-1].ref.key >= keys[-1]:
                        break
        return found

    async def describe(self, bucket: str, keys: Iterable[str]) -> list[ObjectChanged]:
        """Return what is stored under `keys`, as a sweep's notices; what went meanwhile or is stuck is left out."""
        infos = await asyncio.gather(*(self._look(ObjectRef(bucket, key)) for key in keys))
        return [_found(info) for info in infos if isinstance(info, ObjectInfo)]

    async def pages(self, bucket: str, prefix: str) -> AsyncIterator[dict[str, Listed]]:
        """List what is current in a bucket page by page, keys in order; with versions where it keeps them."""
        has_versions = await self._store.has_versions(bucket)
        if has_versions:
            pages = self._store.list_versions(bucket, prefix=prefix)
        else:
            pages = self._store.list(bucket, prefix=prefix, described=True)
        async for page in pages:
            if page:
                yield {one.ref.key: _listing(one, has_version=has_versions) for one in page}

    async def _look(self, ref: ObjectRef) -> ObjectInfo | Stuck | None:
        async with self._room:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await refuse_alias(self._store, ref)
                    return await self._store.head(ref)
            except ObjectGone:
                return None
            except Exception as error:
                if kind_of(error) is not Kind.OUTAGE:
                    raise
                await self._store.check()
                log.warning("object.not_looked_at", bucket=ref.bucket, key=ref.key, reason=one_line(error))
                return Stuck(one_line(error))


def _truth(info: ObjectInfo, *, describe: bool) -> Truth:
    plain = Truth(info.etag, info.last_modified.replace(microsecond=0), info.ref.version_id)
    if not describe:
        return plain
    return replace(plain, size=info.size, content_type=info.content_type, metadata=dict(info.metadata))


def _is_version(truth: Truth | Stuck | None, version_id: str) -> bool:
    return isinstance(truth, Truth) and truth.version_id == version_id


def _listing(info: ObjectInfo, *, has_version: bool) -> Listed:
    described = (info.content_type, dict(info.metadata)) if info.is_described else (None, None)
    listed = Listed(info.ref.key, info.etag, info.size, info.last_modified, *described)
    return replace(listed, version_id=info.ref.version_id, has_version=has_version)


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
