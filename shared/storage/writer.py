"""Writing an object of any size whose length nobody knows yet, in bounded memory, whole or not at all.

What fits into one part is one PUT. Anything longer is a multipart upload: a part is sent as soon as it is full, while
the next one fills, and its bytes are let go as they leave. So a writer holds about one part, however fast its source.
The object appears when the block ends well. When it does not, the parts are removed; of a process that was killed,
`OpenUploads.abort_abandoned` removes them later.
"""

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final

import structlog
from awscrt import checksums
from typing_extensions import Buffer

from shared.errors import PenstockError, Rejected, one_line
from shared.storage.journal import UploadJournal
from shared.storage.multipart import CRC64, FULL_CRC64, MAX_PARTS, MIN_PART_BYTES, Part
from shared.storage.objects import ObjectInfo, ObjectRef

if TYPE_CHECKING:
    from shared.storage.store import S3

log = structlog.get_logger()

ABORT_SECONDS: Final = 10.0
MAX_PARTS_IN_FLIGHT: Final = 4
"""Parts that the store has not answered yet; their bytes have left, so they cost no memory here."""


class Writer:
    """One object on its way; `info` says what was stored once the block has ended."""

    def __init__(  # noqa: PLR0913 - what may be said of an object
        self,
        store: "S3",
        ref: ObjectRef,
        *,
        headers: Mapping[str, str],
        limit: int,
        journal: UploadJournal,
        keep_checksum: bool = True,
    ) -> None:
        self.info: ObjectInfo
        self.size = 0
        self._store = store
        self._uploads = store.uploads
        self._ref = ref
        self._headers = dict(headers)
        self._part_bytes = max(MIN_PART_BYTES, -(-limit // MAX_PARTS))
        self._limit = limit
        self._journal = journal
        self._keep_checksum = keep_checksum
        self._filling: deque[bytes] = deque()
        self._filled = 0
        self._unsent = 0
        self._room = asyncio.Event()
        self._crc = 0
        self._parts: dict[int, Part] = {}
        self._upload_id = ""
        self._entry = ""
        self._begun = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes taken and not yet sent."""
        return self._filled + self._unsent

    async def write(self, chunk: Buffer) -> None:
        """Take the next bytes; waits while the store is slower than their source.

        Raises Rejected (TOO_LARGE) past the limit, and whatever sending a part met.
        """
        piece = bytes(chunk)
        self.size += len(piece)
        if self.size > self._limit:
            raise Rejected("TOO_LARGE", f"{self._ref} is larger than the {self._limit} bytes that are allowed")
        self._crc = checksums.crc64nvme(piece, self._crc)
        self._filling.append(piece)
        self._filled += len(piece)
        if self._filled >= self._part_bytes:
            await self._send_part()
        while self._under_way and self._failure is None and self.buffered_bytes > self._part_bytes:
            self._room.clear()
            await self._room.wait()

    async def finish(self) -> None:
        """Store what was written; returns when the object is there."""
        if not self._upload_id:
            headers = {**self._headers, **self._checksum()}
            self.info = await self._store.put_with_headers(self._ref, b"".join(self._filling), headers)
            return
        if self._filling:
            await self._send_part()
        await self._settle(most=0)
        parts = [self._parts[number] for number in sorted(self._parts)]
        conditions = {name: value for name, value in self._headers.items() if name.startswith("if-")}
        checksum = {**self._checksum(), "x-amz-checksum-type": "FULL_OBJECT"} if self._keep_checksum else {}
        self._journal.completing(self._entry)
        self.info = await self._uploads.complete(
            self._ref, self._upload_id, parts, headers={**conditions, **checksum}, begun_with=self._headers
        )
        self._journal.closed(self._entry)

    async def abort(self) -> None:
        """Remove what was sent; a store that is away keeps it until the journal's next look."""
        for part in self._under_way:
            part.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if not self._entry:
            return None
        if not self._upload_id:  # asked for, and nobody knows whether it was begun
            return self._journal.left(self._entry)
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                await self._uploads.abort(self._ref, self._upload_id)
            self._journal.aborted(self._entry)
        except (PenstockError, TimeoutError) as error:
            self._journal.left(self._entry)
            log.warning("upload.left_open", bucket=self._ref.bucket, key=self._ref.key, reason=one_line(error))

    async def _send_part(self) -> None:
        """Begin to send what has gathered; the store may still be at work on the parts before it."""
        await self._settle(most=MAX_PARTS_IN_FLIGHT - 1)
        if not self._upload_id:
            await self._begin()
        pieces, size = self._filling, self._filled
        self._filling, self._filled, self._unsent, self._begun = deque(), 0, self._unsent + size, self._begun + 1
        part = asyncio.create_task(self._send(self._begun, pieces, size))
        self._under_way.add(part)
        part.add_done_callback(self._ended)

    def _ended(self, part: asyncio.Task[None]) -> None:
        self._under_way.discard(part)
        if not part.cancelled() and self._failure is None:
            self._failure = part.exception()
        self._room.set()

    async def _begin(self) -> None:
        self._entry = self._journal.opening(self._ref)
        self._upload_id = await self._uploads.begin(self._ref, {**self._headers, **self._declared()})
        self._journal.opened(self._entry, self._upload_id)

    def _checksum(self) -> dict[str, str]:
        """Return the checksum that the store keeps; one PUT is protected without it, by the hash in its signature."""
        return {CRC64: _base64(self._crc)} if self._keep_checksum else {}

    def _declared(self) -> Mapping[str, str]:
        """Return what has the store keep a checksum; each part is checked by its own all the same."""
        return FULL_CRC64 if self._keep_checksum else {}

    async def _send(self, number: int, pieces: deque[bytes], size: int) -> None:
        crc = 0
        for piece in pieces:
            crc = checksums.crc64nvme(piece, crc)
        body = _Once(self._leaving(pieces))
        self._parts[number] = await self._uploads.send(
            self._ref, self._upload_id, number, body, size=size, checksum=_base64(crc)
        )

    async def _leaving(self, pieces: deque[bytes]) -> AsyncIterator[bytes]:
        """Let go of every piece as it leaves, so that the next part may fill the room."""
        while pieces:
            piece = pieces.popleft()
            yield piece
            self._unsent -= len(piece)
            self._room.set()

    async def _settle(self, *, most: int) -> None:
        """Wait until at most so many parts are under way; what any of them met is raised here."""
        while len(self._under_way) > most and self._failure is None:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            raise self._failure


class _Once:
    """A body that can be sent once: what has left is gone, and sending it again would send less."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces: AsyncIterator[bytes] | None = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise ConnectionResetError("the connection was lost while a part was sent")
        return pieces


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()
