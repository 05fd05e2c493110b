"""Write output files, each only over the version that the writer has seen (compare-and-swap by etag)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter

from shared.storage import ABSENT, ObjectGone, ObjectRef, ObjectStore

log = structlog.get_logger()

OUTPUTS: Final = Counter("penstock_etl_outputs_total", "Output files of tables by outcome.", ["outcome"])
PIECE_BYTES: Final = 1 << 20
_SOURCE_DIGEST: Final = "made-of"


@dataclass(frozen=True, slots=True)
class CurrentOutput:
    """The current file at a key; the etag is ABSENT if there is none."""

    ref: ObjectRef
    etag: str
    source_digest: str


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A local file, and a digest of the data that it was made from."""

    file: Path
    digest: str


class Outputs:
    """The output bucket; a delayed writer cannot overwrite a newer file.

    Writes raise ObjectSuperseded or ObjectGone if the file changed after `head`.
    """

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    async def head(self, key: str) -> CurrentOutput:
        """Return the current file at `key`."""
        ref = ObjectRef(self._bucket, key)
        try:
            info = await self._store.head(ref)
        except ObjectGone:
            return CurrentOutput(ref, ABSENT, "")
        return CurrentOutput(ref, info.etag, info.metadata.get(_SOURCE_DIGEST, ""))

    async def replace(self, current: CurrentOutput, file: LocalFile, *, content_type: str) -> str:
        """Replace the current file by a local one, unless both have the same source; return the etag."""
        if current.source_digest == file.digest:
            OUTPUTS.labels("unchanged").inc()
            return current.etag
        metadata = {_SOURCE_DIGEST: file.digest}
        async with self._store.write(
            current.ref, metadata=metadata, content_type=content_type, if_match=current.etag
        ) as writer:
            async for piece in _pieces(file.file):
                await writer.write(piece)
        OUTPUTS.labels("written").inc()
        return writer.info.etag

    async def put(self, current: CurrentOutput, body: bytes, *, content_type: str) -> None:
        """Replace the current file by `body`, unless it is the same."""
        source_digest = hashlib.sha256(body).hexdigest()
        if source_digest == current.source_digest:
            return
        metadata = {_SOURCE_DIGEST: source_digest}
        async with self._store.write(
            current.ref, metadata=metadata, content_type=content_type, if_match=current.etag
        ) as writer:
            await writer.write(body)

    async def remove(self, current: CurrentOutput) -> None:
        """Delete the current file."""
        if current.etag != ABSENT:
            await self._store.delete(current.ref)

    async def abort_abandoned(self) -> None:
        """Abort the multipart uploads of killed processes."""
        if removed := await self._store.abort_abandoned(_leave_unresolved):
            log.info("uploads.removed", uploads=removed)


async def _leave_unresolved(_ref: ObjectRef) -> None:
    """Do nothing about an upload of unknown outcome: the next writer reads the etag first."""


async def _pieces(source: Path) -> AsyncIterator[bytes]:
    with source.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
