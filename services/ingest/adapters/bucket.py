"""Read the current state of objects from the object store."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Final

import structlog

from services.ingest.core.decisions import CurrentState, VersionKey, current_version_of, removed_version_of
from services.ingest.core.sweeps import ListedObject
from shared.errors import Kind, Outage, kind_of, one_line
from shared.events import ObjectChanged, stable_id
from shared.storage import PAGE_SIZE, ObjectGone, ObjectInfo, ObjectRef, ObjectStore, is_ambiguous, refuse_alias

log = structlog.get_logger()

MIN_KEYS_TO_LIST: Final = 16
"""Number of keys from which one page of a listing costs less than one HEAD for each key (measured)."""

HEAD_TIMEOUT_SECONDS: Final = 15.0
"""Time limit for the requests about one object."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object whose HEAD fails while the store serves others; `reason` is the error."""

    reason: str


class Bucket:
    """Current states of objects; with `describe`, also the fields of a fact: size, content type and metadata.

    An object whose HEAD fails while the store serves others is `Unreadable` and blocks no other object.
    """

    def __init__(self, store: ObjectStore, *, in_flight: int, describe: bool = True) -> None:
        self._store = store
        self._semaphore = asyncio.Semaphore(in_flight)
        self._describe = describe

    async def check(self) -> None:
        """Raise Outage while the object store is unavailable."""
        await self._store.check()

    async def current_states(
        self, notifications: Iterable[ObjectChanged]
    ) -> dict[VersionKey, CurrentState | Unreadable | None]:
        """Return the current states of the objects that `notifications` name; None for a missing object.

        Describe the object of a removal in any case: another version may be current again.
        """
        notifications = tuple(notifications)
        requested = {current_version_of(one): one for one in notifications}
        found: dict[VersionKey, CurrentState | Unreadable | None] = {}
        for bucket, keys in _listable_keys(requested).items():
            if len(keys) >= MIN_KEYS_TO_LIST:
                found.update(await self._list_states(bucket, sorted(keys)))
        found |= await self._head_all((one for one in requested if one not in found), describe=self._describe)
        removed = {one for one in map(removed_version_of, notifications) if one is not None}
        found |= await self._head_all(removed, describe=False)
        return found | await self._describe_missing(notifications, found)

    async def _head_all(
        self, versions: Iterable[VersionKey], *, describe: bool
    ) -> dict[VersionKey, CurrentState | Unreadable | None]:
        requested = list(versions)
        infos = await asyncio.gather(*(self._head(ObjectRef(*one)) for one in requested))
        return {
            one: _to_state(info, describe=describe) if isinstance(info, ObjectInfo) else info
            for one, info in zip(requested, infos, strict=True)
        }

    async def _describe_missing(
        self, notifications: Iterable[ObjectChanged], found: Mapping[VersionKey, CurrentState | Unreadable | None]
    ) -> dict[VersionKey, CurrentState | Unreadable | None]:
        """Describe what `found` lacks: noncurrent versions, and the current version after a removal."""
        missing = set()
        for one in notifications:
            current = found[current_version_of(one)]
            if one.change == "removed" and isinstance(current, CurrentState) and not current.is_described:
                missing.add(current_version_of(one))
            if (
                one.change == "stored"
                and one.version_id
                and self._describe
                and not _is_version(current, one.version_id)
            ):
                missing.add((one.bucket, one.key, one.version_id))
        return await self._head_all(missing, describe=True)

    async def _list_states(self, bucket: str, keys: list[str]) -> dict[VersionKey, CurrentState | Unreadable | None]:
        """Return states from a listing: pages from the first key on, as long as they cost less than HEADs.

        A listing has no version ids: return nothing if the first object has one.
        """
        first = await self._head(ObjectRef(bucket, keys[0])) if self._describe else None
        if isinstance(first, ObjectInfo) and first.ref.version_id is not None:
            return {}
        listable = {key for key in keys if not is_ambiguous(key)}
        found: dict[VersionKey, CurrentState | Unreadable | None] = {}
        prefix = commonprefix(keys)  # noqa: RUF071 - an S3 prefix is a string, not a path
        size = min(PAGE_SIZE, 2 * len(keys))
        pages = self._store.list(
            bucket, prefix=prefix, start_after=keys[0][:-1], page_size=size, described=self._describe
        )
        with suppress(Outage):  # the caller sends a HEAD for each key then, which detects an outage of the store
            async with aclosing(pages):  # type: ignore[type-var]
                async for page in pages:
                    hits = [info for info in page if info.ref.key in listable]
                    if self._describe and not all(info.is_described for info in hits):
                        break
                    states = {one.ref.key: _to_state(one, describe=self._describe) for one in hits}
                    found.update({(bucket, key, None): state for key, state in states.items()})
                    if len(hits) < MIN_KEYS_TO_LIST or page[-1].ref.key >= keys[-1]:
                        break
        return found

    async def describe(self, bucket: str, keys: Iterable[str]) -> list[ObjectChanged]:
        """Return the objects stored under `keys` as a sweep finds them; skip missing and unreadable ones."""
        infos = await asyncio.gather(*(self._head(ObjectRef(bucket, key)) for key in keys))
        return [_to_change(info) for info in infos if isinstance(info, ObjectInfo)]

    async def list_pages(self, bucket: str, prefix: str) -> AsyncIterator[dict[str, ListedObject]]:
        """List the current objects of a bucket in pages, ordered by key; with version ids if it has versioning."""
        has_versions = await self._store.has_versions(bucket)
        if has_versions:
            pages = self._store.list_versions(bucket, prefix=prefix)
        else:
            pages = self._store.list(bucket, prefix=prefix, described=True)
        async for page in pages:
            if page:
                yield {one.ref.key: _to_listed(one, has_version=has_versions) for one in page}

    async def _head(self, ref: ObjectRef) -> ObjectInfo | Unreadable | None:
        async with self._semaphore:
            try:
                async with asyncio.timeout(HEAD_TIMEOUT_SECONDS):
                    await refuse_alias(self._store, ref)
                    return await self._store.head(ref)
            except ObjectGone:
                return None
            except Exception as error:
                if kind_of(error) is not Kind.OUTAGE:
                    raise
                await self._store.check()
                log.warning("object.unreadable", bucket=ref.bucket, key=ref.key, reason=one_line(error))
                return Unreadable(one_line(error))


def _to_state(info: ObjectInfo, *, describe: bool) -> CurrentState:
    state = CurrentState(info.etag, info.last_modified.replace(microsecond=0), info.ref.version_id)
    if not describe:
        return state
    return replace(state, size=info.size, content_type=info.content_type, metadata=dict(info.metadata))


def _is_version(state: CurrentState | Unreadable | None, version_id: str) -> bool:
    return isinstance(state, CurrentState) and state.version_id == version_id


def _to_listed(info: ObjectInfo, *, has_version: bool) -> ListedObject:
    described = (info.content_type, dict(info.metadata)) if info.is_described else (None, None)
    listed = ListedObject(info.ref.key, info.etag, info.size, info.last_modified, *described)
    return replace(listed, version_id=info.ref.version_id, has_version=has_version)


def _listable_keys(requested: Mapping[VersionKey, ObjectChanged]) -> dict[str, list[str]]:
    """Return the keys of each bucket whose state a listing gives: those without a version id."""
    keys = defaultdict(list)
    for (bucket, key, version_id), notification in requested.items():
        if version_id is None and notification.version_id is None:
            keys[bucket].append(key)
    return keys


def _to_change(info: ObjectInfo) -> ObjectChanged:
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
