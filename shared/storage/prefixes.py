"""Replace all objects under a prefix by copies of others, in steps that may be repeated after any interruption.

The steps are not atomic: a caller that needs that records the replacement first, and applies it until it succeeds.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.concurrency import map_concurrently
from shared.errors import Rejected
from shared.storage.objects import ObjectGone, ObjectRef
from shared.storage.port import ObjectStore

MAX_CONCURRENT_COPIES: Final = 16


@dataclass(frozen=True, slots=True)
class Replacement:
    """What replaces a prefix: `sources` holds the object to copy to each key, each under the prefix.

    `committed_at` is a time by the store's clock. A newer object is a copy made before an interruption, or was stored
    after the commit: it stays.
    """

    bucket: str
    prefix: str
    sources: Mapping[str, ObjectRef]
    committed_at: datetime

    def keys_to_copy(self, present: Mapping[str, datetime]) -> list[str]:
        """Return the keys without a copy; `present` holds existing keys with their modification times."""
        return [key for key in self.sources if key not in present or present[key] <= self.committed_at]

    def keys_to_delete(self, present: Mapping[str, datetime]) -> list[str]:
        """Return the old keys among `present` that have no source."""
        return [key for key, at in present.items() if key not in self.sources and at <= self.committed_at]


async def snapshot(store: ObjectStore, bucket: str, prefix: str) -> AsyncIterator[dict[str, datetime]]:
    """Yield the keys under a prefix with their modification times, up to 1,000 per page."""
    async for page in store.list(bucket, prefix=prefix):
        if page:
            yield {info.ref.key: info.last_modified for info in page}


async def replace(store: ObjectStore, replacement: Replacement) -> None:
    """Copy what is missing, then delete what is old; applying it twice has the effect of once.

    Raises ObjectGone if a source is missing.
    """
    await _copy_missing(store, replacement)
    # an object may have hidden others from the listing: repeat until nothing old is left
    old = 0
    while old != (old := await _delete_old(store, replacement)):
        pass


async def _copy_missing(store: ObjectStore, replacement: Replacement) -> None:
    present: dict[str, datetime] = {}
    async for page in snapshot(store, replacement.bucket, replacement.prefix):
        present.update((key, at) for key, at in page.items() if key in replacement.sources)

    async def copy(key: str) -> None:
        await store.copy(replacement.sources[key], ObjectRef(replacement.bucket, key))

    await map_concurrently(copy, replacement.keys_to_copy(present), limit=MAX_CONCURRENT_COPIES)


async def _delete_old(store: ObjectStore, replacement: Replacement) -> int:
    """Delete old keys; return a hash that identifies them, 0 if there was none."""
    found = 0
    async for page in snapshot(store, replacement.bucket, replacement.prefix):
        if old := replacement.keys_to_delete(page):
            await store.delete_all(replacement.bucket, old)
            found = hash((found, *old))
    return found


async def refuse_hidden_prefix(store: ObjectStore, bucket: str, prefix: str) -> None:
    """Raise Rejected (PREFIX_HIDDEN) if an object named like a parent folder hides the prefix from listings."""
    for key in ancestors(prefix):
        try:
            await store.head(ObjectRef(bucket, key))
        except ObjectGone:
            continue
        raise Rejected("PREFIX_HIDDEN", f"the object {key!r} hides what is in {prefix!r}: remove it first")


def ancestors(prefix: str) -> list[str]:
    """Return the keys that, as objects, would hide what is under a prefix from listings: `a` and `a/b` of `a/b/`."""
    steps = prefix.removesuffix("/").split("/")
    return ["/".join(steps[:n]) for n in range(1, len(steps) + 1)]


def overlap(one: str, other: str) -> bool:
    """Return whether two prefixes overlap."""
    return one.startswith(other) or other.startswith(one)


class PrefixLocks:
    """Serialize the replacement of overlapping prefixes within this process."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], asyncio.Event] = {}

    @asynccontextmanager
    async def of(self, bucket: str, prefix: str) -> AsyncIterator[None]:
        """Hold a prefix; wait while an overlapping one is held."""
        while busy := self._busy(bucket, prefix):
            await busy.wait()
        self._taken[bucket, prefix] = done = asyncio.Event()
        try:
            yield
        finally:
            del self._taken[bucket, prefix]
            done.set()

    def _busy(self, bucket: str, prefix: str) -> asyncio.Event | None:
        taken = self._taken.items()
        return next((done for (b, p), done in taken if b == bucket and overlap(p, prefix)), None)
