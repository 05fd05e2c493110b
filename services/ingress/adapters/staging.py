"""Where sets of files wait, whole, until they replace what is under a prefix."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Final, TypeVar

from services.ingress.adapters.bodies import Body, Field, File
from services.ingress.adapters.uploads import CheckedWriter
from services.ingress.core.checksums import Check
from services.ingress.core.names import safe_key
from services.ingress.core.replacement import SETS, Manifest, directory, manifest_key, set_of, staged_key
from services.ingress.core.write_headers import ObjectHeaders
from shared.errors import Rejected
from shared.storage import ObjectRef, ObjectStore

FIELD: Final = "files"
PREFIX_FIELD: Final = "keys_prefix"
COPY_LIMIT: Final = 5 << 30
"""Bytes of the largest object that a store copies in one request."""
AT_A_TIME: Final = 16

T = TypeVar("T")


class Staging:
    """The staging bucket, as far as it holds such sets."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    async def receive(self, body: Body, set_id: str) -> tuple[str, dict[str, str]]:
        """Store the files of a form; return the directory it names, and the files' names by where they wait.

        Raises Rejected: NO_FILE, WRONG_FIELD, PREFIX_EMPTY, TOO_LARGE, and what names and bodies are refused for.
        """
        names: dict[str, str] = {}
        prefix, writer = "", None
        async with AsyncExitStack() as file:
            async for part in body.form():
                if isinstance(part, File):
                    await file.aclose()  # the one before is whole
                    staged = staged_key(set_id, len(names))
                    names[staged] = _name_of(part)
                    writer = await file.enter_async_context(self._writing(staged, part, body))
                elif isinstance(part, Field):
                    prefix = part.value if part.name == PREFIX_FIELD else prefix
                elif writer is not None:
                    await writer.write(part)
        if not names:
            raise Rejected("NO_FILE", f"the form has no file in its field {FIELD!r}: send at least one there")
        return directory(prefix), names

    async def commit(self, manifest: Manifest) -> None:
        """Write the manifest: from now on the set holds."""
        ref = self.ref(manifest.key)
        await self._store.put(ref, manifest.model_dump_json().encode(), content_type="application/json")

    async def manifest(self, set_id: str) -> Manifest:
        """Read the manifest of a set."""
        _, body = await self._store.read(self.ref(manifest_key(set_id)))
        return Manifest.model_validate_json(body)

    async def since(self, manifest: Manifest) -> datetime:
        """Return when a manifest was written, by the store's own clock and finer than its headers tell."""
        return (await self.listed(self._bucket, manifest.key))[manifest.key]

    async def waiting(self) -> dict[str, dict[str, datetime]]:
        """Return what there is of each set, and since when."""
        sets: dict[str, dict[str, datetime]] = defaultdict(dict)
        for key, at in (await self.listed(self._bucket, SETS)).items():
            sets[set_of(key)][key] = at
        return sets

    async def remove(self, set_id: str) -> None:
        """Remove all of a set, its manifest first: without it the rest means nothing."""
        await self._store.delete(self.ref(manifest_key(set_id)))
        left = await self.listed(self._bucket, f"{SETS}{set_id}/")
        await each(left, lambda key: self._store.delete(self.ref(key)))

    async def listed(self, bucket: str, prefix: str) -> dict[str, datetime]:
        """Return every key under a prefix, and since when it is there."""
        pages = [page async for page in self._store.list(bucket, prefix=prefix)]
        return {info.ref.key: info.last_modified for page in pages for info in page}

    def ref(self, key: str) -> ObjectRef:
        """Return the object of this staged key."""
        return ObjectRef(self._bucket, key)

    @asynccontextmanager
    async def _writing(self, staged: str, file: File, body: Body) -> AsyncIterator[CheckedWriter]:
        headers = ObjectHeaders().with_part(file.headers, file.content_type, {})
        limit = min(body.limit, COPY_LIMIT)
        try:
            async with self._store.write(
                self.ref(staged),
                content_type=headers.content_type,
                metadata=headers.metadata,
                headers=headers.kept,
                limit=limit,
                keep_checksum=body.is_checked or bool(headers.checksums),
            ) as writer:
                checked = CheckedWriter(writer, Check(headers.checksums))
                yield checked
                checked.verify()
        except Rejected as error:
            if error.code != "TOO_LARGE":
                raise
            raise Rejected("TOO_LARGE", f"{file.filename!r} has more than {limit} bytes: no set takes that") from None


async def each(items: Iterable[T], job: Callable[[T], Awaitable[None]]) -> None:
    """Do `job` with every item, a few at a time; the first error ends the others and is raised."""
    todo = iter(items)

    async def work() -> None:
        for item in todo:
            await job(item)

    try:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(AT_A_TIME)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    for worker in workers:
        worker.result()  # a group does not mind a member that was cancelled, and what it had in hand is not done


def _name_of(file: File) -> str:
    if file.field != FIELD:
        raise Rejected("WRONG_FIELD", f"the form has a file in its field {file.field!r}: send it in {FIELD!r}")
    return safe_key(file.filename)
