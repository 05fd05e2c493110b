"""Resumable uploads by the tus protocol; the offset of each is in the store."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.ingress.adapters.permit_pools import limiter
from services.ingress.adapters.staging import MAX_CONCURRENT
from services.ingress.adapters.tus_parts import StoredParts, TusStaging
from services.ingress.core.problems import HttpProblem
from services.ingress.core.quotas import OpenUploadCounts
from services.ingress.core.tus import MAX_CHECKED_BYTES, UPLOAD_ID_KEY, Checksum, Upload, is_upload_id
from services.ingress.settings import IngressSettings
from shared.concurrency import map_concurrently
from shared.errors import PenstockError, Rejected
from shared.loops import periodically
from shared.storage import ObjectGone, ObjectRef, ObjectStore

log = structlog.get_logger()

Bytes = bytes | bytearray
MAX_REMEMBERED: Final = 4096
CLEANUP_SECONDS: Final = 600.0
TAKE_OVER_SECONDS: Final = 8.0
"""How long a request waits for the previous one to finish; tus-js-client gives up after nine seconds."""


@dataclass(frozen=True, slots=True)
class PatchBody:
    """What one request brings to an upload: where it belongs, how many bytes if that is known, and the bytes."""

    offset: int
    size: int | None
    chunks: AsyncIterable[bytes]
    is_checked: bool = False
    """Whether a checksum at the end may refuse all bytes."""


@dataclass(slots=True)
class _ActiveRequest:
    """The request that currently holds an upload."""

    preempted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by a newer request, which waits for the end."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)


class TusUploads:
    """The resumable uploads of one ingress; the newest request for an upload preempts the previous one.

    The previous request is usually a dead connection of the same client: it stores what arrived and ends. Across
    processes, the older request fails because the newer one has changed the stored tail.
    """

    def __init__(self, store: ObjectStore, settings: IngressSettings) -> None:
        self.ttl = timedelta(days=settings.tus_expire_days)
        self._store = store
        self._staging = TusStaging(store, settings.staging_bucket)
        self._active: dict[tuple[str, str], _ActiveRequest] = {}
        """By id and owner, so that a request with the id of another's upload neither sees nor blocks the owner's."""
        self._counts = OpenUploadCounts()
        self._checking = limiter("checksums", settings)
        self._finished: dict[str, Upload] = {}
        """The last uploads that completed or expired here, for clients that missed the answer."""

    async def begin(self, upload: Upload) -> None:
        """Take note of a new upload; one without bytes is an object at once.

        Raises Problem: QUOTA_USED_UP.
        """
        self._counts.begin(upload.id, upload.owner)
        try:
            await self._staging.save_description(upload)
        except BaseException:
            self._counts.end(upload.id)
            raise
        log.info("audit.upload_begun", length=upload.length, **_named(upload))
        if not upload.length:
            await self._become_object(upload, await StoredParts.load(self._staging, upload))

    async def get_offset(self, upload_id: str, owner: str) -> tuple[Upload, int]:
        """Return an upload and its offset; one that has every byte becomes an object, should that have been missed.

        Raises Problem: NO_SUCH_UPLOAD, UPLOAD_EXPIRED, UPLOAD_BUSY.
        """
        async with self._exclusive(upload_id, owner):
            upload = await self._find(upload_id, owner)
            parts = await self._load_parts(upload)
            if parts is None:
                return upload, upload.length
            if parts.is_whole:
                await self._become_object(upload, parts)
            return upload, parts.offset

    async def append(
        self, upload_id: str, owner: str, patch: PatchBody, checksum: Checksum | None = None
    ) -> tuple[Upload, int]:
        """Append the bytes of a request and return the new offset; bytes that arrived before a disconnect are stored.

        Raises HttpProblem: those of `look`, OFFSET_DIFFERS, TOO_LARGE, CHECKSUM_MISMATCH (nothing is stored), and
        UPLOAD_TAKEN_OVER when a newer request goes on.
        """
        async with self._exclusive(upload_id, owner) as active:
            upload = await self._find(upload_id, owner)
            parts = await self._load_parts(upload)
            offset = parts.offset if parts else upload.length
            _require_fits(upload, patch, offset)
            source = _until_preempted(_limit_size(patch, upload.length - offset), active)
            if parts is None:
                await _read_to_end(source)
                return upload, upload.length
            if checksum is None and not patch.is_checked:
                return upload, await self._append(upload, parts, source)
            async with self._checking.hold():
                return upload, await self._append(upload, parts, _checked(source, patch.size, checksum))

    async def remove(self, upload_id: str, owner: str) -> None:
        """Remove an upload; the object of a completed upload stays."""
        async with self._exclusive(upload_id, owner):
            upload = await self._find(upload_id, owner)
            if self._finished.pop(upload_id, None) is None:
                await self._staging.remove(upload)
                self._counts.end(upload_id)
            log.info("audit.upload_removed", **_named(upload))

    async def remove_expired_forever(self) -> None:
        """Remove expired uploads periodically until cancelled."""
        every = min(CLEANUP_SECONDS, self.ttl.total_seconds() / 10)
        await periodically(self.remove_expired, every, event="uploads.not_tidied", survives=PenstockError)

    async def remove_expired(self) -> None:
        """Remove uploads that were not completed in time."""
        before, counted, there = datetime.now(UTC) - self.ttl, self._counts.known(), set[str]()
        async for page in self._store.list(self._staging.bucket, prefix="tus/"):
            ids = {one.ref.key.split("/")[1] for one in page}
            there.update(ids)
            await map_concurrently(self._count_foreign, self._counts.unknown(ids), limit=MAX_CONCURRENT)
            for upload_id in sorted({one.ref.key.split("/")[1] for one in page if one.last_modified <= before}):
                if not any(busy == upload_id for busy, _ in self._active):
                    await self._expire(upload_id)
        for upload_id in counted - there:
            self._counts.end(upload_id)  # ended by another process

    async def _count_foreign(self, upload_id: str) -> None:
        """Count an upload that another process, or this one before a restart, began."""
        if owner := await self.owner_of(upload_id):
            self._counts.note(upload_id, owner)

    async def open(self) -> AsyncIterator[str]:
        """Yield the ids of all open uploads."""
        async for page in self._store.list(self._staging.bucket, prefix="tus/"):
            for one in page:
                if one.ref == self._staging.info(upload_id := one.ref.key.split("/")[1]):
                    yield upload_id

    async def owner_of(self, upload_id: str) -> str:
        """Return the id of the token that began an upload; empty when it is no longer open."""
        upload = await self._staging.load_description(upload_id)
        return upload.owner if upload else ""

    async def remove_ended(self, upload_id: str) -> None:
        """Remove an upload whose token was revoked or has expired.

        Raises HttpProblem: UPLOAD_BUSY while a request works on it.
        """
        if upload := await self._staging.load_description(upload_id):
            async with self._exclusive(upload_id, upload.owner):
                await self._staging.remove(upload)
            self._counts.end(upload_id)
            log.info("audit.upload_ended", **_named(upload))

    async def _expire(self, upload_id: str) -> None:
        owner = await self.owner_of(upload_id)
        async with self._exclusive(upload_id, owner):
            upload = await self._staging.load_description(upload_id)
            if upload is None:
                # a remainder of an upload that was removed while its last bytes were sent
                await self._staging.delete_description(upload_id)
            elif upload.is_expired():
                await self._staging.remove(upload)
                self._mark_finished(upload)
                log.info("audit.upload_expired", **_named(upload))

    async def _find(self, upload_id: str, owner: str) -> Upload:
        upload = self._finished.get(upload_id)
        if upload is None or upload.owner != owner:  # the same requests for a foreign upload as for a missing one
            upload = await self._staging.load_description(upload_id) if is_upload_id(upload_id) else None
        if upload is None or upload.owner != owner:
            raise HttpProblem("NO_SUCH_UPLOAD", "there is no such upload: begin one with POST /tus/")
        if upload.is_expired():
            raise HttpProblem("UPLOAD_EXPIRED", f"the upload expired on {upload.expires:%F %T} UTC: begin a new one")
        return upload

    async def _load_parts(self, upload: Upload) -> StoredParts | None:
        """Return what the store has of an upload; None when it is an object already."""
        if upload.id in self._finished:
            return None
        try:
            return await StoredParts.load(self._staging, upload)
        except ObjectGone:
            made = await self._has_become_object(upload)
            await self._staging.delete_description(upload.id)
            self._counts.end(upload.id)
        if not made:
            raise HttpProblem("UPLOAD_EXPIRED", "the object store has let go of what was sent: begin a new upload")
        self._mark_finished(upload)
        return None

    async def _has_become_object(self, upload: Upload) -> bool:
        """Return whether the object at the target was made by this upload."""
        try:
            info = await self._store.head(ObjectRef(upload.bucket, upload.key))
        except ObjectGone:
            return False
        return info.metadata.get(UPLOAD_ID_KEY) == upload.id

    async def _append(self, upload: Upload, parts: StoredParts, source: AsyncIterable[Bytes]) -> int:
        try:
            async for chunk in _store_tail_on_error(source, parts):
                await parts.write(chunk)
            if parts.is_whole:
                await self._become_object(upload, parts)
            else:
                await parts.store_tail()
        finally:
            await parts.cancel_sending()
        return parts.offset

    async def _become_object(self, upload: Upload, parts: StoredParts) -> None:
        await parts.finish()
        log.info("audit.object_stored", size=upload.length, **_named(upload))
        await self._staging.delete_description(upload.id)
        self._mark_finished(upload)

    def _mark_finished(self, upload: Upload) -> None:
        self._counts.end(upload.id)
        self._finished[upload.id] = upload
        while len(self._finished) > MAX_REMEMBERED:
            del self._finished[next(iter(self._finished))]

    @asynccontextmanager
    async def _exclusive(self, upload_id: str, owner: str) -> AsyncIterator[_ActiveRequest]:
        """Hold an upload exclusively; preempt the request before, which ends after storing what it has."""
        try:
            async with asyncio.timeout(TAKE_OVER_SECONDS):
                while (other := self._active.get((upload_id, owner))) is not None:
                    other.preempted.set()
                    await other.finished.wait()
        except TimeoutError:
            raise HttpProblem(
                "UPLOAD_BUSY",
                "another request works on this upload, and cannot end now: try again when it has",
                headers={"retry-after": "1"},
            ) from None
        self._active[upload_id, owner] = active = _ActiveRequest()
        try:
            yield active
        finally:
            del self._active[upload_id, owner]
            active.finished.set()


def _named(upload: Upload) -> dict[str, str]:
    return {"by": upload.by, "upload": upload.id, "bucket": upload.bucket, "key": upload.key}


def _require_fits(upload: Upload, patch: PatchBody, at: int) -> None:
    if patch.offset != at:
        raise HttpProblem(
            "OFFSET_DIFFERS",
            f"the upload has {at} bytes, and Upload-Offset is {patch.offset}: go on from there",
            headers={"upload-offset": str(at)},
        )
    if patch.size is not None and patch.size > upload.length - at:
        raise Rejected("TOO_LARGE", f"{patch.size} bytes came, and only {upload.length - at} are missing: send those")


async def _store_tail_on_error(source: AsyncIterable[Bytes], parts: StoredParts) -> AsyncIterator[Bytes]:
    try:
        async for chunk in source:
            yield chunk
    except (Rejected, HttpProblem):
        await parts.store_tail()
        raise


async def _until_preempted(source: AsyncIterator[bytes], active: _ActiveRequest) -> AsyncIterator[bytes]:
    """Yield the bytes as they arrive, until another request preempts this one."""
    preempted = asyncio.ensure_future(active.preempted.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(source))
            try:
                await asyncio.wait((coming, preempted), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
                    with suppress(asyncio.CancelledError):
                        await coming
            if coming.cancelled():
                raise HttpProblem(
                    "UPLOAD_TAKEN_OVER",
                    "a newer request continues this upload: the received bytes are stored, ask for the offset",
                )
            try:
                chunk = coming.result()
            except StopAsyncIteration:
                return
            yield chunk
    finally:
        preempted.cancel()


async def _limit_size(patch: PatchBody, space: int) -> AsyncIterator[bytes]:
    """Yield the bytes; hold back the last chunk of unknown-length bodies until it is known that the size fits."""
    held, received = b"", 0
    try:
        async for chunk in patch.chunks:
            received += len(chunk)
            if received > space:
                held = b""
                raise _too_much(space)
            if patch.size is not None:
                yield chunk
                continue
            if held:
                yield held
            held = chunk
    except Rejected:
        if held:
            yield held
        raise
    if held:
        yield held


async def _read_to_end(source: AsyncIterable[bytes]) -> None:
    """Read a body that may be empty: a client that expects 100 (Continue) takes any other answer for a refusal."""
    async for _ in source:
        pass


def _too_much(space: int) -> Rejected:
    return Rejected("TOO_LARGE", f"more than {space} bytes came, and only those are missing: send no more")


async def _checked(source: AsyncIterable[bytes], size: int | None, checksum: Checksum | None) -> AsyncIterator[Bytes]:
    """Yield the bytes after all of them have arrived and the checksum matches."""
    body = bytearray()
    if size is None or size <= MAX_CHECKED_BYTES:
        async for chunk in source:
            body += chunk
            if len(body) > MAX_CHECKED_BYTES:
                break
        else:
            if checksum is not None:
                checksum.verify(body)
            yield body
            return
    raise HttpProblem(
        "TOO_LARGE", f"a request with a checksum may bring {MAX_CHECKED_BYTES >> 20} MiB: send smaller pieces"
    )
