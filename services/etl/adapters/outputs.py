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
PIECE: Final = 1 << 20
_MADE_OF: Final = "made-of"


@dataclass(frozen=True, slots=True)
class Present:
    """What stands in a place; an etag of ABSENT: nothing."""

    ref: ObjectRef
    etag: str
    made_of: str


@dataclass(frozen=True, slots=True)
class Made:
    """A local file, and a digest of what it was made of."""

    file: Path
    of: str


class Outputs:
    """The output bucket; a writer that slept while another one wrote changes nothing there.

    Writing is ObjectSuperseded or ObjectGone where another file stands than the one that was looked at.
    """

    def __init__(self, store: S3, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    async def look(self, key: str) -> Present:
        """Say what stands at `key`."""
        ref = ObjectRef(self._bucket, key)
        try:
            info = await self._store.head(ref)
        except ObjectGone:
            return Present(ref, ABSENT, "")
        return Present(ref, info.etag, info.metadata.get(_MADE_OF, ""))

    async def replace(self, present: Present, made: Made, *, content_type: str) -> str:
        """Store a local file in its place, unless the same one stands there; return the etag."""
        if present.made_of == made.of:
            OUTPUTS.labels("unchanged").inc()
            return present.etag
        metadata = {_MADE_OF: made.of}
        async with self._store.write(
            present.ref, metadata=metadata, content_type=content_type, if_match=present.etag
        ) as writer:
            async for piece in _pieces(made.file):
                await writer.write(piece)
        OUTPUTS.labels("written").inc()
        return writer.info.etag

    async def put(self, present: Present, body: bytes, *, content_type: str) -> None:
        """Store a small file in its place, unless it is there already."""
        made_of = hashlib.sha256(body).hexdigest()
        if made_of == present.made_of:
            return
        metadata = {_MADE_OF: made_of}
        async with self._store.write(
            present.ref, metadata=metadata, content_type=content_type, if_match=present.etag
        ) as writer:
            await writer.write(body)

    async def remove(self, present: Present) -> None:
        """Remove what stands there."""
        if present.etag != ABSENT:
            await self._store.delete(present.ref)

    async def tidy(self) -> None:
        """Remove the parts of files that a killed process was writing."""
        if removed := await self._store.abort_abandoned(_looked_at_anyway):
            log.info("uploads.removed", uploads=removed)


async def _looked_at_anyway(_ref: ObjectRef) -> None:
    """Leave a file in doubt as it is: who writes it next looks at it first."""


async def _pieces(source: Path) -> AsyncIterator[bytes]:
    with source.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
