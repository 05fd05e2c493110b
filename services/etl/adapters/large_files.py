"""Stream the rows of large files in bounded memory."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Final

from typing_extensions import Buffer

from services.etl.adapters.bucket import ref_of
from services.etl.adapters.parquet_process import parquet_batches
from services.etl.core.datasets import format_of, is_compressed
from services.etl.core.decoding import is_gzip
from services.etl.core.frames import Batch
from services.etl.core.streaming import RowStream
from services.etl.core.values import FileToLoad
from services.etl.settings import EtlSettings
from shared.storage import ObjectInfo, ObjectStore

PIECE_BYTES: Final = 1 << 20
COMPRESSED_BYTES: Final = 64 << 10
"""Small, because the expansion of one piece of a compressed file is in memory at once."""


class LargeFiles:
    """Reads the rows of one version of a file."""

    def __init__(self, store: ObjectStore, settings: EtlSettings) -> None:
        self._store = store
        self._settings = settings

    def batches(
        self, file: FileToLoad, info: ObjectInfo, on_bytes: Callable[[int], None]
    ) -> AsyncGenerator[Batch, None]:
        """Yield rows and rejects batch by batch; call `on_bytes` with the number of bytes read so far."""
        read = self._parquet if format_of(file.key) == "parquet" else self._lines
        return read(file, info, on_bytes)

    async def _lines(
        self, file: FileToLoad, info: ObjectInfo, on_bytes: Callable[[int], None]
    ) -> AsyncGenerator[Batch, None]:
        stream, done = RowStream(file.key, file.dataset, line_bytes=self._settings.etl_line_bytes), 0
        size = COMPRESSED_BYTES if is_compressed(file.key) else PIECE_BYTES
        async with self._store.stream(ref_of(file), etag=info.etag, chunk_size=size) as pieces:
            async for piece in _as_bytes(pieces):
                # gzip without a .gz name also needs small pieces
                size = COMPRESSED_BYTES if not done and is_gzip(piece) else size
                for part in (piece[at : at + size] for at in range(0, len(piece), size)):
                    for batch in await asyncio.to_thread(stream.feed, part):
                        yield batch
                done += len(piece)
                on_bytes(done)
                if stream.is_rejected:
                    break
        for batch in await asyncio.to_thread(stream.end):
            yield batch

    async def _parquet(
        self, file: FileToLoad, info: ObjectInfo, on_bytes: Callable[[int], None]
    ) -> AsyncGenerator[Batch, None]:
        """Read a copy on disk, because Parquet keeps its metadata at the end of the file."""
        with tempfile.TemporaryDirectory(prefix="penstock-etl-") as folder:
            copy, done = Path(folder, "copy.parquet"), 0
            with await asyncio.to_thread(copy.open, "wb") as copy_file:
                async with self._store.stream(ref_of(file), etag=info.etag, chunk_size=PIECE_BYTES) as pieces:
                    async for piece in _as_bytes(pieces):
                        await asyncio.to_thread(copy_file.write, piece)
                        done += len(piece)
                        on_bytes(done)
            settings = self._settings
            batches = parquet_batches(
                copy,
                file.dataset,
                file.key,
                memory_bytes=settings.etl_parquet_bytes,
                row_bytes=settings.etl_line_bytes,
            )
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield batch


async def _as_bytes(pieces: AsyncIterator[Buffer]) -> AsyncIterator[bytes]:
    """Yield each piece as bytes, without a copy if it is bytes already."""
    async for piece in pieces:
        yield bytes(piece)
