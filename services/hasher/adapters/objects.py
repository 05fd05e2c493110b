"""Stored versions, read and digested within a budget of bytes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import structlog

from services.hasher.core import digesting, verdicts
from services.hasher.core.verdicts import Row, Task
from services.hasher.settings import HasherSettings
from shared.errors import Rejected
from shared.events import ObjectChanged
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore, ObjectSuperseded

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 0.5


class Budget:
    """Room for so many bytes at a time; who asks for more than all of it gets all of it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def take(self, wanted: int) -> AsyncIterator[None]:
        """Hold `wanted` bytes of room, waiting for it."""
        share = min(wanted, self._total)
        while self._free < share:
            self._freed.clear()
            await self._freed.wait()
        self._free -= share
        try:
            yield
        finally:
            self._free += share
            self._freed.set()


class Objects:
    """Digests stored versions; what became of a version in the meantime is a row like any other."""

    def __init__(self, store: ObjectStore, settings: HasherSettings) -> None:
        self._store = store
        self._settings = settings
        self._budget = Budget(settings.hasher_small_bytes_in_flight)

    async def digest_small(self, task: Task) -> Row:
        """Read a small object in one request and digest it."""
        async with self._budget.take(task.size):
            return await self._settled(task, lambda: self._read(task))

    async def digest_large(self, task: Task, on_bytes: Callable[[int], None]) -> Row:
        """Stream a large object and digest it, telling `on_bytes` how many bytes are done."""
        return await self._settled(task, lambda: self._stream(task, on_bytes))

    async def delete(self, change: ObjectChanged) -> None:
        """Remove a hashed version, unless something else is stored under its key by now."""
        ref = _ref(change)
        try:
            if (await self._store.head(ref)).etag == change.etag:
                await self._store.delete(ref)
        except ObjectGone:
            log.debug("object.gone_before_delete", bucket=change.bucket, key=change.key)

    async def _read(self, task: Task) -> Row:
        info, body = await self._store.read(_ref(task.change), etag=task.change.etag, limit=task.size)
        _refuse_other_size(task, len(body))
        declared = self._declared(task, info)
        digests = await digesting.digest_small(body, _all(task, declared))
        return verdicts.finished(task, digests, declared)

    async def _stream(self, task: Task, on_bytes: Callable[[int], None]) -> Row:
        ref = _ref(task.change)
        declared = self._declared(task, await self._store.head(ref))
        chunk = self._settings.hasher_chunk_bytes
        async with self._store.stream(ref, etag=task.change.etag, chunk_size=chunk) as chunks:
            digests, size = await digesting.digest_stream(chunks, _all(task, declared), on_bytes=on_bytes)
        _refuse_other_size(task, size)
        return verdicts.finished(task, digests, declared)

    def _declared(self, task: Task, info: ObjectInfo) -> dict[str, str]:
        """Return the digests that the upload brought: the store's own checksums, and what its metadata says."""
        kept = info.checksums if self._settings.hasher_verify_checksums else {}
        return {**kept, **verdicts.declared_in(info.metadata), **task.declared}

    async def _settled(self, task: Task, read: Callable[[], Awaitable[Row]]) -> Row:
        """Return what `read` gives; an object that is not there is looked for until the wait is over, once at least."""
        deadline = time.monotonic() + self._settings.hasher_wait_for_object
        while True:
            last_look = time.monotonic() >= deadline
            try:
                return await read()
            except ObjectSuperseded:
                return Row(task.change, "superseded")
            except ObjectGone:
                if last_look:
                    return Row(task.change, "gone")
            await asyncio.sleep(min(LOOK_AGAIN_SECONDS, max(0.0, deadline - time.monotonic())))


def _refuse_other_size(task: Task, size: int) -> None:
    """Refuse a version that is not as large as announced: a body that breaks off is the store's outage, not this."""
    if size != task.size:
        ref = _ref(task.change)
        raise Rejected("SIZE_DIFFERS", f"{ref} has {size} bytes, announced were {task.size}: a forged event")


def _ref(change: ObjectChanged) -> ObjectRef:
    return ObjectRef(change.bucket, change.key, change.version_id)


def _all(task: Task, declared: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*task.algorithms, *declared)))
