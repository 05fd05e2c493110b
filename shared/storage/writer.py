"""Write an object of unknown length in bounded memory, completely or not at all.

Up to one part, it is a single PUT, otherwise a multipart upload: a full part is sent while the next one fills, and its
bytes are freed as they leave. So a writer holds about one part, however fast its source. The object appears if the
block ends without an error. Otherwise the parts are removed; `ObjectStore.abort_abandoned` removes those of a killed
process.
"""

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Final

import structlog
from awscrt import checksums
from typing_extensions import Buffer

from shared.errors import PenstockError, Rejected, one_line
from shared.storage.journal import UploadJournal
from shared.storage.multipart import CRC64, FULL_CRC64, MAX_PARTS, MIN_PART_BYTES
from shared.storage.objects import ObjectInfo, ObjectRef, Part
from shared.storage.port import ObjectStore

log = structlog.get_logger()

ABORT_SECONDS: Final = 10.0
MAX_PARTS_IN_FLIGHT: Final = 4
"""Unanswered parts; their bytes have been sent, so they take no memory here."""


class Writer:
    """Writes one object; `info` describes it once the block has ended."""

    def __init__(  # noqa: PLR0913 - the properties of an object
        self,
        store: ObjectStore,
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
        self._in_flight: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes accepted but not sent yet."""
        return self._filled + self._unsent

    async def write(self, chunk: Buffer) -> None:
        """Write the next bytes; wait while the store is slower than the source.

        Raises:
            Rejected: TOO_LARGE past the limit.
            PenstockError: an earlier part could not be sent.

        """
        piece = bytes(chunk)
        self.size += len(piece)
        if self.size > self._limit:
            raise Rejected("TOO_LARGE", f"{self._ref} is larger than the limit of {self._limit} bytes")
        self._crc = checksums.crc64nvme(piece, self._crc)
        self._filling.append(piece)
        self._filled += len(piece)
        if self._filled >= self._part_bytes:
            await self._send_part()
        while self._in_flight and self._failure is None and self.buffered_bytes > self._part_bytes:
            self._room.clear()
            await self._room.wait()

    async def finish(self) -> None:
        """Complete the object; return once it is stored."""
        if not self._upload_id:
            headers = {**self._headers, **self._checksum()}
            self.info = await self._store.put_with_headers(self._ref, b"".join(self._filling), headers)
            return
        if self._filling:
            await self._send_part()
        await self._wait_for_parts(at_most=0)
        parts = [self._parts[number] for number in sorted(self._parts)]
        conditions = {name: value for name, value in self._headers.items() if name.startswith("if-")}
        checksum = {**self._checksum(), "x-amz-checksum-type": "FULL_OBJECT"} if self._keep_checksum else {}
        self._journal.completing(self._entry)
        self.info = await self._uploads.complete(
            self._ref, self._upload_id, parts, headers={**conditions, **checksum}, begun_with=self._headers
        )
        self._journal.closed(self._entry)

    async def abort(self) -> None:
        """Remove sent parts; if the store is unreachable, the journal keeps the upload for `abort_abandoned`."""
        for part in self._in_flight:
            part.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        if not self._entry:
            return None
        if not self._upload_id:  # the create request was sent but not answered, so the upload may exist
            return self._journal.left(self._entry)
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                await self._uploads.abort(self._ref, self._upload_id)
            self._journal.aborted(self._entry)
        except (PenstockError, TimeoutError) as error:
            self._journal.left(self._entry)
            log.warning("upload.left_open", bucket=self._ref.bucket, key=self._ref.key, reason=one_line(error))

    async def _send_part(self) -> None:
        """Start sending the filled part; earlier parts may still be in flight."""
        await self._wait_for_parts(at_most=MAX_PARTS_IN_FLIGHT - 1)
        if not self._upload_id:
            await self._begin()
        pieces, size = self._filling, self._filled
        self._filling, self._filled, self._unsent, self._begun = deque(), 0, self._unsent + size, self._begun + 1
        part = asyncio.create_task(self._send(self._begun, pieces, size))
        self._in_flight.add(part)
        part.add_done_callback(self._on_part_end)

    def _on_part_end(self, part: asyncio.Task[None]) -> None:
        self._in_flight.discard(part)
        if not part.cancelled() and self._failure is None:
            self._failure = part.exception()
        self._room.set()

    async def _begin(self) -> None:
        self._entry = self._journal.opening(self._ref)
        self._upload_id = await self._uploads.begin(self._ref, {**self._headers, **self._checksum_request()})
        self._journal.opened(self._entry, self._upload_id)

    def _checksum(self) -> dict[str, str]:
        """Return the checksum header to store; a single PUT is also protected by the hash in its signature."""
        return {CRC64: _base64(self._crc)} if self._keep_checksum else {}

    def _checksum_request(self) -> Mapping[str, str]:
        """Return the headers that request a stored checksum; each part is verified by its own in any case."""
        return FULL_CRC64 if self._keep_checksum else {}

    async def _send(self, number: int, pieces: deque[bytes], size: int) -> None:
        crc = 0
        for piece in pieces:
            crc = checksums.crc64nvme(piece, crc)
        body = _SingleUseBody(self._drain(pieces))
        self._parts[number] = await self._uploads.send(
            self._ref, self._upload_id, number, body, size=size, checksum=_base64(crc)
        )

    async def _drain(self, pieces: deque[bytes]) -> AsyncIterator[bytes]:
        """Yield and free each piece, so that the next part can use its memory."""
        while pieces:
            piece = pieces.popleft()
            yield piece
            self._unsent -= len(piece)
            self._room.set()

    async def _wait_for_parts(self, *, at_most: int) -> None:
        """Wait until `at_most` parts are in flight; raise the first error of any part."""
        while len(self._in_flight) > at_most and self._failure is None:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            raise self._failure


class _SingleUseBody:
    """A body that can be sent once: its sent pieces are freed, so a repeat would be incomplete."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces: AsyncIterator[bytes] | None = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise ConnectionResetError("the connection was lost while a part was sent")
        return pieces


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()
