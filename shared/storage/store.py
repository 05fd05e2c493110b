"""The store that services use: each operation by the client that is best at it."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from typing_extensions import Buffer

from shared.settings import Settings
from shared.storage.bulk import BulkClient, is_plain
from shared.storage.failures import require_credentials
from shared.storage.objects import CHUNK, ObjectInfo, ObjectRef, ObjectStore

if TYPE_CHECKING:
    from shared.storage.rich import RichClient


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[ObjectStore]:
    """Open the object store of `settings`; no request is sent before the first operation."""
    require_credentials(settings)
    async with AsyncExitStack() as stack:
        yield S3(settings, stack)


class S3:
    """An ObjectStore over two clients: obstore for plain keys, aiobotocore for all it cannot do."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._bulk = BulkClient(settings)
        stack.push_async_callback(self._bulk.close)
        self._rich: RichClient | None = None
        self._opening = asyncio.Lock()

    async def head(self, ref: ObjectRef, *, checksums: bool = False) -> ObjectInfo:
        """Describe an object."""
        if is_plain(ref.key) and not checksums:
            return await self._bulk.head(ref)
        return await (await self._rich_client()).head(ref, checksums=checksums)

    async def read(self, ref: ObjectRef, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Read a whole small object."""
        return await (await self._for(ref)).read(ref, etag)

    @asynccontextmanager
    async def stream(
        self,
        ref: ObjectRef,
        *,
        etag: str | None = None,
        start: int = 0,
        end: int | None = None,
        chunk_size: int = CHUNK,
    ) -> AsyncIterator[AsyncIterator[Buffer]]:
        """Read bytes `start` to `end` in chunks."""
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"an empty range: {start} to {end}")
        client = await self._for(ref)
        async with client.stream(ref, etag, start, end, chunk_size) as chunks:
            yield chunks

    async def list(
        self, bucket: str, *, prefix: str = "", start_after: str = ""
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List in key order, in pages."""
        async for page in (await self._rich_client()).list(bucket, prefix, start_after):
            yield page

    async def put(
        self,
        ref: ObjectRef,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        """Store a small output."""
        return await (await self._for(ref)).put(ref, body, metadata or {}, content_type)

    async def delete(self, ref: ObjectRef) -> None:
        """Remove an object or a version."""
        client = self._bulk if is_plain(ref.key) and ref.version_id is None else await self._rich_client()
        await client.delete(ref)

    async def _for(self, ref: ObjectRef) -> "BulkClient | RichClient":
        return self._bulk if is_plain(ref.key) else await self._rich_client()

    async def _rich_client(self) -> "RichClient":
        async with self._opening:
            if self._rich is None:
                # half a second of reading: not on the loop
                rich = await asyncio.to_thread(importlib.import_module, "shared.storage.rich")
                client = await self._stack.enter_async_context(rich.open_client(self._settings))
                self._rich = rich.RichClient(client, self._settings)
            return self._rich
