"""Where sets of files wait, whole, until they replace what is under a prefix."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from services.ingress.adapters.bodies import Body, Field, File
from services.ingress.adapters.uploads import CheckedWriter
from services.ingress.core.checksums import ChecksumVerifier
from services.ingress.core.names import safe_path
from services.ingress.core.replacement import SETS_PREFIX, Manifest, folder_prefix, manifest_key, set_of, staged_key
from services.ingress.core.write_headers import ObjectHeaders
from shared.errors import Rejected
from shared.storage import ObjectGone, ObjectRef, ObjectStore
from shared.storage.prefixes import Replacement, snapshot

FILES_FIELD: Final = "files"
PREFIX_FIELD: Final = "keys_prefix"
MAX_COPY_BYTES: Final = 5 << 30
"""Bytes of the largest object that a store copies in one request."""
MAX_CONCURRENT: Final = 16
SMALL_FILE_BYTES: Final = 256 << 10
"""Bytes of a file that is buffered whole; MAX_CONCURRENT of them stay below the memory of one upload."""

T = TypeVar("T")


class Staging:
    """The staged sets in the staging bucket."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    async def receive(self, body: Body, set_id: str) -> tuple[str, dict[str, str]]:
        """Store the files of a form; return the directory it names, and the files' names by where they wait.

        Raises Rejected: NO_FILE, WRONG_FIELD, PREFIX_EMPTY, TOO_LARGE, and what names and bodies are refused for.
        """
        names: dict[str, str] = {}
        prefix = ""
        async with _limited_tasks() as spawn, AsyncExitStack() as file:
            current: _StagedFile | None = None
            async for part in body.parts():
                if isinstance(part, bytes):
                    if current is not None:
                        await current.write(part)
                    continue
                if current is not None:
                    await current.finish()
                    current = None
                if isinstance(part, Field):
                    prefix = part.value if part.name == PREFIX_FIELD else prefix
                else:
                    staged = staged_key(set_id, len(names))
                    names[staged] = _name_of(part)
                    current = _StagedFile(self._store, self.ref(staged), part, body, file, spawn)
            if current is not None:
                await current.finish()
        if not names:
            raise Rejected("NO_FILE", f"the form has no file in its field {FILES_FIELD!r}: send at least one there")
        return folder_prefix(prefix), names

    async def commit(self, manifest: Manifest) -> None:
        """Write the manifest: from now on the set holds."""
        ref = self.ref(manifest.key)
        await self._store.put(ref, manifest.model_dump_json().encode(), content_type="application/json")

    async def manifest(self, set_id: str) -> Manifest:
        """Read the manifest of a set."""
        _, body = await self._store.read(self.ref(manifest_key(set_id)))
        return Manifest.model_validate_json(body)

    async def replacement(self, manifest: Manifest) -> Replacement:
        """Return what a committed manifest replaces."""
        sources = {key: self.ref(staged) for staged, key in manifest.files.items()}
        return Replacement(manifest.bucket, manifest.prefix, sources, await self._committed_at(manifest))

    async def _committed_at(self, manifest: Manifest) -> datetime:
        """Return when a manifest was written, by the store's clock, in finer units than HTTP dates."""
        async for page in snapshot(self._store, self._bucket, manifest.key):
            return page[manifest.key]
        raise ObjectGone(f"{self.ref(manifest.key)} is gone")

    async def staged_sets(self) -> dict[str, "StagedSet"]:
        """Return the state of each staged set."""
        sets: dict[str, StagedSet] = {}
        async for page in snapshot(self._store, self._bucket, SETS_PREFIX):
            for key, at in page.items():
                known = sets.get(set_id := set_of(key), StagedSet(at))
                committed_at = at if key == manifest_key(set_id) else known.committed_at
                sets[set_id] = StagedSet(max(at, known.newest), committed_at)
        return sets

    async def remove(self, set_id: str) -> None:
        """Remove a set, manifest first: without the manifest the rest has no effect."""
        await self._store.delete(self.ref(manifest_key(set_id)))
        async for page in snapshot(self._store, self._bucket, f"{SETS_PREFIX}{set_id}/"):
            await self._store.delete_all(self._bucket, list(page))

    def ref(self, key: str) -> ObjectRef:
        """Return the object of this staged key."""
        return ObjectRef(self._bucket, key)


@dataclass(frozen=True, slots=True)
class StagedSet:
    """A set that waits: when it grew last, and since when it has a manifest; None while it has none."""

    newest: datetime
    committed_at: datetime | None = None


Job = Callable[[], Awaitable[object]]
Spawn = Callable[[Job], Awaitable[None]]
"""Run a job concurrently as soon as a slot is free."""


class _StagedFile:
    """A file on its way into the staging bucket; small files are stored concurrently in one request each."""

    def __init__(  # noqa: PLR0913, PLR0917 - the file and how to store it
        self, store: ObjectStore, ref: ObjectRef, file: File, body: Body, stack: AsyncExitStack, spawn: Spawn
    ) -> None:
        self._store = store
        self._ref = ref
        self._file = file
        self._headers = ObjectHeaders().with_part(file.headers, file.content_type, {})
        self._limit = min(body.limit, MAX_COPY_BYTES)
        self._store_checksum = body.is_checked or bool(self._headers.checksums)
        self._stack = stack
        self._spawn = spawn
        self._buffer = bytearray()
        self._writer: CheckedWriter | None = None

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self._writer is None and len(self._buffer) + len(chunk) <= SMALL_FILE_BYTES:
            self._buffer += chunk
            return
        if self._writer is None:
            self._writer = await self._stack.enter_async_context(self._writing())
            await self._writer.write(bytes(self._buffer))
            self._buffer.clear()
        await self._writer.write(chunk)

    async def finish(self) -> None:
        """Store what is whole now."""
        if self._writer is not None:
            await self._stack.aclose()
        else:
            await self._spawn(self._store_buffer)

    async def _store_buffer(self) -> None:
        async with self._writing() as writer:
            await writer.write(bytes(self._buffer))

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[CheckedWriter]:
        try:
            async with self._store.write(
                self._ref,
                content_type=self._headers.content_type,
                metadata=self._headers.metadata,
                headers=self._headers.stored,
                limit=self._limit,
                keep_checksum=self._store_checksum,
            ) as writer:
                checked = CheckedWriter(writer, ChecksumVerifier(self._headers.checksums))
                yield checked
                checked.verify()
        except Rejected as error:
            if error.code != "TOO_LARGE":
                raise
            name = self._file.filename
            raise Rejected("TOO_LARGE", f"{name!r} has more than {self._limit} bytes: no set takes that") from None


@asynccontextmanager
async def _limited_tasks() -> AsyncIterator[Spawn]:
    """Run jobs concurrently with the block, at most MAX_CONCURRENT; the first error cancels all and is raised."""
    semaphore = asyncio.Semaphore(MAX_CONCURRENT)

    async def run_job(job: Job) -> None:
        try:
            await job()
        finally:
            semaphore.release()

    try:
        async with asyncio.TaskGroup() as group:

            async def add(job: Job) -> None:
                await semaphore.acquire()
                group.create_task(run_job(job))

            yield add
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _name_of(file: File) -> str:
    if file.field != FILES_FIELD:
        raise Rejected("WRONG_FIELD", f"the form has a file in its field {file.field!r}: send it in {FILES_FIELD!r}")
    return safe_path(file.filename)
