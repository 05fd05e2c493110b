"""Read and digest stored versions within a budget of bytes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from services.hasher.adapters import digesting
from services.hasher.core import decisions
from services.hasher.core.decisions import DigestRow, DigestTask, LedgerEntry
from services.hasher.settings import HasherSettings
from shared.errors import Rejected
from shared.events import ObjectChanged
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore, ObjectSuperseded, refuse_alias

log = structlog.get_logger()

POLL_SECONDS = 0.5
T = TypeVar("T")


class ByteBudget:
    """A limit on the bytes held in memory at a time; a request above the limit takes all of it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._available = total
        self._released = asyncio.Event()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Reserve `size` bytes for the block; wait until they are available."""
        share = min(size, self._total)
        while self._available < share:
            self._released.clear()
            await self._released.wait()
        self._available -= share
        try:
            yield
        finally:
            self._available += share
            self._released.set()


@dataclass(frozen=True, slots=True)
class LargeObject:
    """An object too large for its batch, as the bucket describes it."""

    change: ObjectChanged
    is_current: bool = True


class ObjectDigester:
    """Digests stored versions; an object that was overwritten or deleted meanwhile gives a row of that status.

    A change only names the object. Etag, size, version and metadata come from the bucket.
    """

    def __init__(self, store: ObjectStore, settings: HasherSettings) -> None:
        self._store = store
        self._settings = settings
        self._budget = ByteBudget(settings.hasher_small_bytes_in_flight)
        self._large_bytes = -1 if settings.hasher_delay else settings.hasher_large_bytes

    async def check(self) -> None:
        """Raise Outage while the object store is unavailable."""
        await self._store.check()

    async def digest_small(self, change: ObjectChanged, entry: LedgerEntry | None) -> DigestRow | LargeObject:
        """Digest the object of `change` unless it is large; reuse stored digests after a HEAD if they match."""
        return await self._wait_for_object(change, lambda: self._digest_if_small(change, entry))

    async def inspect(self, change: ObjectChanged) -> DigestRow | DigestTask:
        """Return what to digest for `change`, or a row when the object was overwritten or deleted."""
        return await self._wait_for_object(change, lambda: self._inspect(change))

    async def digest_large(self, task: DigestTask, on_bytes: Callable[[int], None]) -> DigestRow:
        """Stream a large object and digest it; call `on_bytes` with the bytes read so far."""
        return await self._wait_for_object(task.change, lambda: self._stream(task, on_bytes))

    async def is_gone(self, change: ObjectChanged) -> bool:
        """Whether the bucket confirms a removal: of the named version, or of the current one if `change` names none."""
        try:
            await refuse_alias(self._store, _version_ref(change))
            await self._store.head(_version_ref(change))
        except ObjectGone:
            return True
        return False

    async def delete(self, change: ObjectChanged) -> None:
        """Delete a hashed object unless its etag has changed."""
        ref = _version_ref(change)
        try:
            if (await self._store.head(ref)).etag == change.etag:
                await self._store.delete(ref)
        except ObjectGone:
            log.debug("object.gone_before_delete", bucket=change.bucket, key=change.key)

    async def _digest_if_small(self, change: ObjectChanged, entry: LedgerEntry | None) -> DigestRow | LargeObject:
        if decisions.was_probably_digested(change, entry) or (change.size or 0) > self._large_bytes:
            task = await self._inspect(change)
            if (row := decisions.reuse_digests(task, entry)) is not None:
                return row
            if task.size > self._large_bytes:
                return LargeObject(task.change, task.is_current)
        return await self._read_current(change)

    async def _inspect(self, change: ObjectChanged) -> DigestTask:
        await refuse_alias(self._store, _version_ref(change))
        try:
            info = await self._store.head(_current_ref(change))
            is_current = _matches(change, info)
        except ObjectGone:
            if change.version_id is None:
                raise
            info, is_current = None, False
        if info is None or not is_current:
            if change.version_id is None:
                raise ObjectSuperseded(f"{_version_ref(change)} was overwritten after its event")
            current, info = info, await self._store.head(_version_ref(change))
            is_current = current is not None and current.ref == info.ref
        return self._build_task(change, info, is_current=is_current)

    async def _read_current(self, change: ObjectChanged) -> DigestRow | LargeObject:
        """Read the current version in one GET; read another version with a second one."""
        await refuse_alias(self._store, _version_ref(change))
        try:
            row = await self._read_within_budget(change, _current_ref(change), change.etag)
        except (ObjectGone, ObjectSuperseded):
            if change.version_id is None:
                raise
            return await self._read_version(change)
        if change.version_id in {None, row.change.version_id}:
            return row
        return await self._read_version(change)

    async def _read_version(self, change: ObjectChanged) -> DigestRow | LargeObject:
        """Read a noncurrent version, or the current one if its id differs from the one in `change`."""
        task = await self._inspect(change)
        ref = ObjectRef(change.bucket, change.key, change.version_id)
        return await self._read_within_budget(task.change, ref, None, is_current=task.is_current)

    async def _read_within_budget(
        self, change: ObjectChanged, ref: ObjectRef, etag: str | None, *, is_current: bool = True
    ) -> DigestRow | LargeObject:
        """Read within the byte budget; reserve more when the object is larger than its event says."""
        max_size = max(self._large_bytes, 0)
        for size in dict.fromkeys((min(change.size or 0, max_size), max_size)):
            async with self._budget.reserve(size):
                try:
                    info, body = await self._store.read(ref, etag=etag, limit=size)
                except Rejected as rejection:
                    if rejection.code != "SIZE_DIFFERS":
                        raise
                    continue
                task = self._build_task(change, info, is_current=is_current)
                return decisions.succeeded_row(
                    task, await digesting.digest_small(body, _algorithms_for(task)), _expected_digests(task)
                )
        return LargeObject(_with_info(change, await self._store.head(ref)), is_current)

    async def _stream(self, task: DigestTask, on_bytes: Callable[[int], None]) -> DigestRow:
        change, chunk = task.change, self._settings.hasher_chunk_bytes
        async with self._store.stream(_version_ref(change), etag=change.etag, chunk_size=chunk) as chunks:
            digests, _ = await digesting.digest_stream(chunks, _algorithms_for(task), on_bytes=on_bytes)
        return decisions.succeeded_row(task, digests, _expected_digests(task))

    def _build_task(self, change: ObjectChanged, info: ObjectInfo, *, is_current: bool) -> DigestTask:
        """Build the task from the bucket's response.

        Raises UnsupportedDigest for an unknown digest in its metadata.
        """
        change = _with_info(change, info)
        checksums = info.checksums if self._settings.hasher_verify_checksums else {}
        try:
            task = decisions.build_task(change, self._settings.hasher_digests)
        except Rejected as rejection:
            raise UnsupportedDigest(change, rejection, is_current=is_current) from rejection
        return replace(task, checksums=checksums, is_current=is_current)

    async def _wait_for_object(self, change: ObjectChanged, ask: Callable[[], Awaitable[T]]) -> T | DigestRow:
        """Return what `ask` returns; retry a missing object until `hasher_wait_for_object` seconds have passed."""
        deadline = time.monotonic() + self._settings.hasher_wait_for_object
        while True:
            is_last_try = time.monotonic() >= deadline
            try:
                return await ask()
            except UnsupportedDigest as found:
                return DigestRow(found.change, "failed", failure=found.rejection, is_current=found.is_current)
            except ObjectSuperseded:
                return DigestRow(change, "superseded")
            except ObjectGone:
                if is_last_try:
                    return DigestRow(change, "gone")
            await asyncio.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))


class UnsupportedDigest(Exception):  # noqa: N818 - a finding about the object
    """An object's metadata requests an unknown digest."""

    def __init__(self, change: ObjectChanged, rejection: Rejected, *, is_current: bool) -> None:
        super().__init__(str(rejection))
        self.change = change
        self.rejection = rejection
        self.is_current = is_current


def _matches(change: ObjectChanged, info: ObjectInfo) -> bool:
    """Whether the change describes the version in `info`; fields missing in the change match."""
    return change.etag in {None, info.etag} and change.version_id in {None, info.ref.version_id}


def _with_info(change: ObjectChanged, info: ObjectInfo) -> ObjectChanged:
    """Return the change with version, etag, size, content type and metadata from the bucket."""
    fields = {
        "version_id": info.ref.version_id,
        "etag": info.etag,
        "size": info.size,
        "content_type": info.content_type,
        "metadata": dict(info.metadata),
    }
    return change.model_copy(update=fields)


def _current_ref(change: ObjectChanged) -> ObjectRef:
    return ObjectRef(change.bucket, change.key)


def _version_ref(change: ObjectChanged) -> ObjectRef:
    return ObjectRef(change.bucket, change.key, change.version_id)


def _expected_digests(task: DigestTask) -> dict[str, str]:
    return {**task.checksums, **task.declared}


def _algorithms_for(task: DigestTask) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*task.algorithms, *_expected_digests(task))))
