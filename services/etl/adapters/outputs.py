"""The files that etl writes, each only in place of the one that stood there when somebody looked."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter

from shared.storage import ABSENT, ObjectGone, ObjectRef
from shared.storage.store import S3

log = structlog.get_logger()

OUTPUTS: Final = Counter("penstock_etl_outputs_total", "Files that tables were written to, or found in.", ["outcome"])
PIECE_BYTES: Final = 1 << 20
_SOURCE_DIGEST: Final = "made-of"


@dataclass(frozen=True, slots=True)
class CurrentOutput:
    """What stands in a place; an etag of ABSENT: nothing."""

    ref: ObjectRef
    etag: str
    source_digest: str


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A local file, and a digest of what it was made of."""

    file: Path
    digest: str


class Outputs:
    """The output bucket; a writer that slept while another one wrote changes nothing there.

    Writing is ObjectSuperseded or ObjectGone where another file stands than the one that was looked at.
    """

    def __init__(self, store: S3, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    async def head(self, key: str) -> CurrentOutput:
        """Say what stands at `key`."""
        ref = ObjectRef(self._bucket, key)
        try:
            info = await self._store.head(ref)
        except ObjectGone:
            return CurrentOutput(ref, ABSENT, "")
        return CurrentOutput(ref, info.etag, info.metadata.get(_SOURCE_DIGEST, ""))

    async def replace(self, current: CurrentOutput, file: LocalFile, *, content_type: str) -> str:
        """Store a local file in its place, unless the same one stands there; return the etag."""
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
        """Store a small file in its place, unless it is there already."""
        source_digest = hashlib.sha256(body).hexdigest()
        if source_digest == current.source_digest:
            return
        metadata = {_SOURCE_DIGEST: source_digest}
        async with self._store.write(
            current.ref, metadata=metadata, content_type=content_type, if_match=current.etag
        ) as writer:
            await writer.write(body)

    async def remove(self, current: CurrentOutput) -> None:
        """Remove what stands there."""
        if current.etag != ABSENT:
            await self._store.delete(current.ref)

    async def abort_abandoned(self) -> None:
        """Remove the parts of files that a killed process was writing."""
        if removed := await self._store.abort_abandoned(_leave_unresolved):
            log.info("uploads.removed", uploads=removed)


async def _leave_unresolved(_ref: ObjectRef) -> None:
    """Leave a file in doubt as it is: who writes it next looks at it first."""


async def _pieces(source: Path) -> AsyncIterator[bytes]:
    with source.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
