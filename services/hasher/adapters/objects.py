"""Stored versions, read and digested within a budget of bytes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from services.hasher.core import digesting, verdicts
from services.hasher.core.verdicts import Remembered, Row, Task
from services.hasher.settings import HasherSettings
from shared.errors import Rejected
from shared.events import ObjectChanged
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore, ObjectSuperseded, refuse_alias

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 0.5
Answer = TypeVar("Answer")


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


@dataclass(frozen=True, slots=True)
class Large:
    """An object that takes long to read, as the bucket describes it."""

    change: ObjectChanged
    is_current: bool = True


class Objects:
    """Digests stored versions; what became of a version in the meantime is a row like any other.

    A change only says where to look. Etag, size, version and metadata are those that the bucket answers.
    """

    def __init__(self, store: ObjectStore, settings: HasherSettings) -> None:
        self._store = store
        self._settings = settings
        self._budget = Budget(settings.hasher_small_bytes_in_flight)
        self._large_bytes = -1 if settings.hasher_delay else settings.hasher_large_bytes

    async def check(self) -> None:
        """Raise Outage while the store serves nobody."""
        await self._store.check()

    async def digest_small(self, change: ObjectChanged, mine: Remembered | None) -> Row | Large:
        """Digest the object of `change` unless it is large; one that was digested before is only looked at."""
        return await self._settled(change, lambda: self._small(change, mine))

    async def look(self, change: ObjectChanged) -> Row | Task:
        """Ask the bucket about the object of `change`: what is to be digested, or what became of it."""
        return await self._settled(change, lambda: self._look(change))

    async def digest_large(self, task: Task, on_bytes: Callable[[int], None]) -> Row:
        """Stream a large object and digest it, telling `on_bytes` how many bytes are done."""
        return await self._settled(task.change, lambda: self._stream(task, on_bytes))

    async def is_gone(self, change: ObjectChanged) -> bool:
        """Whether the bucket confirms a removal; that of a version by its id, else that of what is current."""
        try:
            await refuse_alias(self._store, _ref(change))
            await self._store.head(_ref(change))
        except ObjectGone:
            return True
        return False

    async def delete(self, change: ObjectChanged) -> None:
        """Remove a hashed version, unless something else is stored under its key by now."""
        ref = _ref(change)
        try:
            if (await self._store.head(ref)).etag == change.etag:
                await self._store.delete(ref)
        except ObjectGone:
            log.debug("object.gone_before_delete", bucket=change.bucket, key=change.key)

    async def _small(self, change: ObjectChanged, mine: Remembered | None) -> Row | Large:
        if verdicts.may_be_digested(change, mine) or (change.size or 0) > self._large_bytes:
            task = await self._look(change)
            if (reused := verdicts.reusable(task, mine)) is not None:
                return reused
            if task.size > self._large_bytes:
                return Large(task.change, task.is_current)
        return await self._read(change)

    async def _look(self, change: ObjectChanged) -> Task:
        await refuse_alias(self._store, _ref(change))
        try:
            info = await self._store.head(_current(change))
            is_current = _is_about(change, info)
        except ObjectGone:
            if change.version_id is None:
                raise
            info, is_current = None, False
        if info is None or not is_current:
            if change.version_id is None:
                raise ObjectSuperseded(f"{_ref(change)} was overwritten since its event")
            before, info = info, await self._store.head(_ref(change))
            is_current = before is not None and before.ref == info.ref
        return self._task(change, info, is_current=is_current)

    async def _read(self, change: ObjectChanged) -> Row | Large:
        """Read what is current in one request; only a version that is not needs a second one."""
        await refuse_alias(self._store, _ref(change))
        try:
            row = await self._read_within(change, _current(change), change.etag)
        except (ObjectGone, ObjectSuperseded):
            if change.version_id is None:
                raise
            return await self._read_version(change)
        if change.version_id in {None, row.change.version_id}:
            return row
        return await self._read_version(change)

    async def _read_version(self, change: ObjectChanged) -> Row | Large:
        """Read a version that is not the current one, or the current one by another name."""
        task = await self._look(change)
        ref = ObjectRef(change.bucket, change.key, change.version_id)
        return await self._read_within(task.change, ref, None, is_current=task.is_current)

    async def _read_within(
        self, change: ObjectChanged, ref: ObjectRef, etag: str | None, *, is_current: bool = True
    ) -> Row | Large:
        """Read within the budget of bytes; an object that is larger than its event said is given more room."""
        most = max(self._large_bytes, 0)
        for size in dict.fromkeys((min(change.size or 0, most), most)):
            async with self._budget.take(size):
                try:
                    info, body = await self._store.read(ref, etag=etag, limit=size)
                except Rejected as refusal:
                    if refusal.code != "SIZE_DIFFERS":
                        raise
                    continue
                task = self._task(change, info, is_current=is_current)
                return verdicts.finished(task, await digesting.digest_small(body, _all(task)), _declared(task))
        return Large(_described(change, await self._store.head(ref)), is_current)

    async def _stream(self, task: Task, on_bytes: Callable[[int], None]) -> Row:
        change, chunk = task.change, self._settings.hasher_chunk_bytes
        async with self._store.stream(_ref(change), etag=change.etag, chunk_size=chunk) as chunks:
            digests, _ = await digesting.digest_stream(chunks, _all(task), on_bytes=on_bytes)
        return verdicts.finished(task, digests, _declared(task))

    def _task(self, change: ObjectChanged, info: ObjectInfo, *, is_current: bool) -> Task:
        """Read from an answer of the bucket what is to be digested.

        Raises Unsupported for a digest in its metadata that is unknown.
        """
        described = _described(change, info)
        checksums = info.checksums if self._settings.hasher_verify_checksums else {}
        try:
            task = verdicts.task_of(described, self._settings.hasher_digests)
        except Rejected as refusal:
            raise Unsupported(described, refusal, is_current=is_current) from refusal
        return replace(task, checksums=checksums, is_current=is_current)

    async def _settled(self, change: ObjectChanged, ask: Callable[[], Awaitable[Answer]]) -> Answer | Row:
        """Return what `ask` gives; an object that is not there is looked for until the wait is over, once at least."""
        deadline = time.monotonic() + self._settings.hasher_wait_for_object
        while True:
            last_look = time.monotonic() >= deadline
            try:
                return await ask()
            except Unsupported as found:
                return Row(found.change, "failed", failure=found.refusal, is_current=found.is_current)
            except ObjectSuperseded:
                return Row(change, "superseded")
            except ObjectGone:
                if last_look:
                    return Row(change, "gone")
            await asyncio.sleep(min(LOOK_AGAIN_SECONDS, max(0.0, deadline - time.monotonic())))


class Unsupported(Exception):  # noqa: N818 - a finding about the object
    """An object's metadata asks for a digest that is unknown."""

    def __init__(self, change: ObjectChanged, refusal: Rejected, *, is_current: bool) -> None:
        super().__init__(str(refusal))
        self.change = change
        self.refusal = refusal
        self.is_current = is_current


def _is_about(change: ObjectChanged, info: ObjectInfo) -> bool:
    """Whether the change and an answer name the same version, as far as the change names one."""
    return change.etag in {None, info.etag} and change.version_id in {None, info.ref.version_id}


def _described(change: ObjectChanged, info: ObjectInfo) -> ObjectChanged:
    """Put what the bucket says in place of what the change said."""
    said = {
        "version_id": info.ref.version_id,
        "etag": info.etag,
        "size": info.size,
        "content_type": info.content_type,
        "metadata": dict(info.metadata),
    }
    return change.model_copy(update=said)


def _current(change: ObjectChanged) -> ObjectRef:
    return ObjectRef(change.bucket, change.key)


def _ref(change: ObjectChanged) -> ObjectRef:
    return ObjectRef(change.bucket, change.key, change.version_id)


def _declared(task: Task) -> dict[str, str]:
    return {**task.checksums, **task.declared}


def _all(task: Task) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*task.algorithms, *_declared(task))))
