"""The parts of one resumable upload in the store; its offset stays correct through every crash.

A full part is sent while the next one fills, so about two parts are in memory. The remaining bytes are stored as the
tail, whose metadata says after how many parts it follows: a tail that a later part includes is ignored. All parts but
the last have the same size, so a part that is sent again, or arrives late, holds the same bytes.
"""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from awscrt import checksums

from services.ingress.core.problems import HttpProblem
from services.ingress.core.tus import Upload
from shared.object_headers import precondition_headers
from shared.storage import ABSENT, ObjectGone, ObjectRef, ObjectStore, ObjectSuperseded, Part
from shared.storage.multipart import MAX_PARTS, MIN_PART_BYTES

AFTER_PARTS_KEY: Final = "after-parts"


class TusStaging:
    """Descriptions and tails of unfinished uploads: `tus/<id>/info.json` and `tus/<id>/tail`."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self.store = store
        self.bucket = bucket

    def info(self, upload_id: str) -> ObjectRef:
        """Name what describes an upload."""
        return ObjectRef(self.bucket, f"tus/{upload_id}/info.json")

    def tail_bytes(self, upload_id: str) -> ObjectRef:
        """Name the bytes that fill no part yet."""
        return ObjectRef(self.bucket, f"tus/{upload_id}/tail")

    async def save_description(self, upload: Upload) -> None:
        """Save the description of an upload.

        Raises HttpProblem: OFFSET_DIFFERS when another process has changed it since it was read.
        """
        headers = {"content-type": "application/json", **precondition_headers(upload.note_etag or None)}
        with conflict_as_offset_differs():
            await self.store.put_with_headers(self.info(upload.id), upload.model_dump_json().encode(), headers)

    async def load_description(self, upload_id: str) -> Upload | None:
        """Return the saved description of an upload; None if there is none."""
        try:
            info, described = await self.store.read(self.info(upload_id))
        except ObjectGone:
            return None
        return Upload.model_validate_json(described).model_copy(update={"note_etag": info.etag})

    async def delete_description(self, upload_id: str) -> None:
        """Delete tail and description; the description last, so that a retry finds the rest."""
        await self.store.delete(self.tail_bytes(upload_id))
        await self.store.delete(self.info(upload_id))

    async def remove(self, upload: Upload) -> None:
        """Remove an upload with its parts."""
        if upload.upload_id:
            await self.store.uploads.abort(ObjectRef(upload.bucket, upload.key), upload.upload_id)
        await self.delete_description(upload.id)


class StoredParts:
    """The stored parts and the tail of one upload, and the bytes that follow."""

    def __init__(
        self, staging: TusStaging, upload: Upload, sent: list[Part], tail_bytes: bytes, *, tail_etag: str
    ) -> None:
        self._staging = staging
        self._upload = upload
        self._ref = ObjectRef(upload.bucket, upload.key)
        self._size = max(MIN_PART_BYTES, -(-upload.length // MAX_PARTS))
        self._sent = sent
        self._buffer = bytearray(tail_bytes)
        self._stored_tail_bytes = len(tail_bytes)
        self._tail_etag = tail_etag
        self._sending: asyncio.Task[None] | None = None
        self.offset = sum(one.size for one in sent) + len(tail_bytes)

    @classmethod
    async def load(cls, staging: TusStaging, upload: Upload) -> "StoredParts":
        """Load the state of an upload from the store.

        Raises ObjectGone when its multipart upload is no longer there.
        """
        ref = ObjectRef(upload.bucket, upload.key)
        sent = await staging.store.uploads.parts(ref, upload.upload_id) if upload.upload_id else []
        try:
            info, tail_bytes = await staging.store.read(staging.tail_bytes(upload.id))
        except ObjectGone:
            return cls(staging, upload, sent, b"", tail_etag=ABSENT)
        tail_bytes = tail_bytes if info.metadata.get(AFTER_PARTS_KEY) == str(len(sent)) else b""
        return cls(staging, upload, sent, tail_bytes, tail_etag=info.etag)

    @property
    def is_whole(self) -> bool:
        """Whether every byte is here."""
        return self.offset == self._upload.length

    async def write(self, chunk: bytes | bytearray) -> None:
        """Take the next bytes; waits while the store is slower than their source."""
        self.offset += len(chunk)
        remaining = memoryview(chunk)
        while remaining:
            space = self._size - len(self._buffer)
            self._buffer += remaining[:space]
            remaining = remaining[space:]
            if len(self._buffer) == self._size and self._upload.length > self._size:
                await self._send()

    async def store_tail(self) -> None:
        """Store the incomplete part as the tail, after all parts before it are stored.

        Raises HttpProblem: OFFSET_DIFFERS when another process has stored bytes since the last look.
        """
        await self._wait_for_sent()
        if len(self._buffer) != self._stored_tail_bytes:
            headers = {f"x-amz-meta-{AFTER_PARTS_KEY}": str(len(self._sent)), **precondition_headers(self._tail_etag)}
            with conflict_as_offset_differs():
                info = await self._staging.store.put_with_headers(
                    self._staging.tail_bytes(self._upload.id), bytes(self._buffer), headers
                )
            self._stored_tail_bytes, self._tail_etag = len(self._buffer), info.etag

    async def finish(self) -> None:
        """Complete the object; return when it exists.

        Raises ObjectSuperseded when the target no longer satisfies the upload's precondition. No checksum is stored,
        because the uploader has sent none for the whole object.
        """
        condition = precondition_headers(self._upload.required)
        if self._upload.length <= self._size:
            await self._staging.store.put_with_headers(
                self._ref, bytes(self._buffer), {**self._upload.headers, **condition}
            )
            return
        if self._buffer:
            await self._send()
        await self._wait_for_sent()
        await self._staging.store.uploads.complete(
            self._ref, self._upload.upload_id, self._sent, headers=condition, begun_with=self._upload.headers
        )

    async def cancel_sending(self) -> None:
        """Cancel the part that is being sent."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _send(self) -> None:
        await self._wait_for_sent()
        if not self._upload.upload_id:
            await self._begin()
        body, self._buffer, self._stored_tail_bytes = bytes(self._buffer), bytearray(), 0
        self._sending = asyncio.create_task(self._deliver(body))

    async def _begin(self) -> None:
        """Begin the multipart upload; save its id before any part is sent."""
        async with self._staging.store.begin_upload(self._ref, self._upload.headers) as upload_id:
            self._upload = self._upload.model_copy(update={"upload_id": upload_id})
            await self._staging.save_description(self._upload)

    async def _deliver(self, body: bytes) -> None:
        number, size, checksum = len(self._sent) + 1, len(body), _crc64(body)
        part = await self._staging.store.uploads.send(
            self._ref, self._upload.upload_id, number, body, size=size, checksum=checksum
        )
        self._sent.append(part)

    async def _wait_for_sent(self) -> None:
        """Wait for the part that is being sent; raise its error, each time this is called."""
        if self._sending is not None:
            await self._sending


@contextmanager
def conflict_as_offset_differs() -> Iterator[None]:
    """Translate ObjectSuperseded into OFFSET_DIFFERS: a request in another process continued the upload."""
    try:
        yield
    except ObjectSuperseded:
        raise HttpProblem(
            "OFFSET_DIFFERS", "another request went on with this upload: ask how far it has come"
        ) from None


def _crc64(body: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(body).to_bytes(8, "big")).decode()
