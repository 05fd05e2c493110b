"""Large files, streamed: rows as they come, in bounded memory."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from typing_extensions import Buffer

from services.etl.core.datasets import format_of, is_compressed
from services.etl.core.frames import Batch
from services.etl.core.streaming import Stream, parquet_batches
from services.etl.core.values import Wanted
from services.etl.settings import EtlSettings
from shared.storage import ObjectInfo, ObjectRef, ObjectStore

T = TypeVar("T")

PIECE_BYTES: Final = 4 << 20
COMPRESSED_BYTES: Final = 64 << 10
"""What a piece of a compressed file expands to is in memory at once."""


class LargeFiles:
    """The rows of one version of a file."""

    def __init__(self, store: ObjectStore, settings: EtlSettings) -> None:
        self._store = store
        self._settings = settings

    def batches(self, wanted: Wanted, info: ObjectInfo, on_bytes: Callable[[int], None]) -> AsyncGenerator[Batch, None]:
        """Give rows and rejects batch by batch, telling `on_bytes` how many bytes are read."""
        read = self._parquet if format_of(wanted.key) == "parquet" else self._lines
        return read(wanted, info, on_bytes)

    async def _lines(
        self, wanted: Wanted, info: ObjectInfo, on_bytes: Callable[[int], None]
    ) -> AsyncGenerator[Batch, None]:
        stream, done = Stream(wanted.key, wanted.dataset, line_bytes=self._settings.etl_line_bytes), 0
        size = COMPRESSED_BYTES if is_compressed(wanted.key) else PIECE_BYTES
        async with self._store.stream(_ref(wanted), etag=info.etag, chunk_size=size) as pieces:
            async for piece in _as_bytes(pieces):
                for batch in await asyncio.to_thread(stream.feed, piece):
                    yield batch
                done += len(piece)
                on_bytes(done)
        for batch in await asyncio.to_thread(stream.end):
            yield batch

    async def _parquet(
        self, wanted: Wanted, info: ObjectInfo, on_bytes: Callable[[int], None]
    ) -> AsyncGenerator[Batch, None]:
        """Read a copy on disk: a Parquet file begins at its end."""
        with tempfile.TemporaryDirectory(prefix="penstock-etl-") as folder:
            copy, done = Path(folder, "copy.parquet"), 0
            with await asyncio.to_thread(copy.open, "wb") as file:
                async with self._store.stream(_ref(wanted), etag=info.etag, chunk_size=PIECE_BYTES) as pieces:
                    async for piece in _as_bytes(pieces):
                        await asyncio.to_thread(file.write, piece)
                        done += len(piece)
                        on_bytes(done)
            batches = parquet_batches(copy, wanted.dataset, wanted.key)
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield batch


async def ahead(source: AsyncIterator[T], *, most: int) -> AsyncGenerator[T, None]:
    """Give what `source` gives, which is asked for up to `most` more while somebody works on one."""
    queue: asyncio.Queue[T | _End] = asyncio.Queue(most)

    async def fill() -> None:
        failure = None
        try:
            async for one in source:
                await queue.put(one)
        except Exception as error:  # noqa: BLE001 - whoever takes from the queue hears of it
            failure = error
        await queue.put(_End(failure))

    filling = asyncio.create_task(fill())
    try:
        while not isinstance(one := await queue.get(), _End):
            yield one
        if one.failure is not None:
            raise one.failure
    finally:
        filling.cancel()
        await asyncio.wait((filling,))


@dataclass(frozen=True, slots=True)
class _End:
    failure: Exception | None


async def _as_bytes(pieces: AsyncIterator[Buffer]) -> AsyncIterator[bytes]:
    """Give each piece as bytes; what is bytes already is not copied."""
    async for piece in pieces:
        yield bytes(piece)


def _ref(wanted: Wanted) -> ObjectRef:
    return ObjectRef(wanted.bucket, wanted.key)
