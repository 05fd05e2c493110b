"""Multipart uploads that browsers send to the store directly, by presigned URLs.

`parts/<mark>` in the staging bucket describes an upload while it is open, so that abandoned uploads can be removed.
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.ingress.adapters.staging import MAX_CONCURRENT
from services.ingress.core.multipart_tickets import Ticket, TicketSigner
from services.ingress.core.problems import HttpProblem
from services.ingress.core.quotas import OpenUploadCounts
from services.ingress.settings import IngressSettings
from shared.concurrency import map_concurrently
from shared.errors import PenstockError
from shared.loops import periodically
from shared.storage import ObjectGone, ObjectRef, ObjectStore, Part
from shared.storage.signing import Signer, path_of

log = structlog.get_logger()

NOTES_PREFIX: Final = "parts/"
UPLOAD_ID_KEY: Final = "penstock-upload"
UPLOAD_TTL: Final = timedelta(days=7)
SIGNED_SECONDS: Final = 900
"""How long a presigned URL is valid; afterwards the client requests another one."""
CLEANUP_SECONDS: Final = 3600.0


class MultipartUploads:
    """The multipart uploads of all ingress processes; the state is in the store and in the tickets."""

    def __init__(self, store: ObjectStore, settings: IngressSettings, *, ttl: timedelta = UPLOAD_TTL) -> None:
        self._store = store
        self._settings = settings
        self._ttl = ttl
        self._ticket_signer = TicketSigner(settings.key_bytes)
        # a user that may only write parts: its rights bound what a presigned URL can do
        self._signer = Signer(settings.s3_access_key_parts, settings.s3_secret_key_parts, settings.s3_region)
        self._counts = OpenUploadCounts()

    async def begin(
        self, ref: ObjectRef, size: int, owner: str, *, headers: Mapping[str, str], file_id: str | None
    ) -> tuple[str, Ticket]:
        """Begin an upload of `size` bytes with these headers; return its ticket, sealed and open.

        Raises Problem: QUOTA_USED_UP.
        """
        mark = secrets.token_hex(16)
        self._counts.begin(mark, owner)
        try:
            return await self._begin_noted(mark, ref, size, owner, headers=headers, file_id=file_id)
        except BaseException:
            self._counts.end(mark)
            raise

    async def _begin_noted(  # noqa: PLR0913 - the fields of a ticket
        self, mark: str, ref: ObjectRef, size: int, owner: str, *, headers: Mapping[str, str], file_id: str | None
    ) -> tuple[str, Ticket]:
        async with self._store.begin_upload(ref, {**headers, f"x-amz-meta-{UPLOAD_ID_KEY}": mark}) as upload_id:
            expires = datetime.now(UTC).replace(microsecond=0) + self._ttl
            ticket = Ticket(ref.bucket, ref.key, upload_id, size, owner, mark, expires, file_id)
            signed_ticket = self._ticket_signer.sign(ticket)
            await self._store.put(self._note_ref(mark), signed_ticket.encode())
        return signed_ticket, ticket

    def find(self, signed_ticket: str, owner: str) -> Ticket:
        """Return the ticket, checked against `owner`.

        Raises HttpProblem: NO_SUCH_UPLOAD, UPLOAD_EXPIRED.
        """
        ticket = self._ticket_signer.unsign(signed_ticket)
        if ticket is None or ticket.owner != owner:
            raise _unknown()
        if ticket.expires <= datetime.now(UTC):
            raise HttpProblem("UPLOAD_EXPIRED", f"the upload expired on {ticket.expires:%F %T} UTC: begin a new one")
        return ticket

    async def sent(self, ticket: Ticket) -> list[Part]:
        """Return the parts that the store has with the expected size.

        Raises HttpProblem: NO_SUCH_UPLOAD once it was completed or given up.
        """
        try:
            parts = await self._store.uploads.parts(_ref(ticket), ticket.upload_id)
        except ObjectGone:
            raise _unknown() from None
        return [one for one in parts if one.number <= ticket.parts and one.size == ticket.size_of(one.number)]

    def presign_parts(self, ticket: Ticket, numbers: Iterable[int]) -> dict[int, str]:
        """Return the URL to which each part is sent by PUT, with its very length and within SIGNED_SECONDS."""
        return {number: self._presign(ticket, number) for number in numbers}

    async def complete(self, ticket: Ticket) -> str:
        """Complete the upload and return the object's etag; idempotent.

        Raises HttpProblem: UPLOAD_INCOMPLETE with the numbers that are `missing`, NO_SUCH_UPLOAD.
        """
        try:
            parts = await self.sent(ticket)
        except HttpProblem:
            return await self._finished_etag(ticket)
        if missing := ticket.missing((one.number, one.size) for one in parts):
            raise HttpProblem(
                "UPLOAD_INCOMPLETE",
                f"{len(missing)} of {ticket.parts} parts are not there or not whole: send them and ask again",
                more={"missing": missing},
            )
        info = await self._store.uploads.complete(_ref(ticket), ticket.upload_id, parts)
        await self._forget(ticket.mark)
        log.info("audit.object_stored", bucket=ticket.bucket, key=ticket.key, size=ticket.size, etag=info.etag)
        return info.etag

    async def remove(self, ticket: Ticket) -> None:
        """Abort an upload and remove its parts; a completed object stays."""
        await self._store.uploads.abort(_ref(ticket), ticket.upload_id)
        await self._forget(ticket.mark)
        log.info("audit.upload_removed", bucket=ticket.bucket, key=ticket.key)

    async def open(self) -> AsyncIterator[str]:
        """Yield the marks of all open uploads."""
        async for page in self._store.list(self._settings.staging_bucket, prefix=NOTES_PREFIX):
            for one in page:
                yield one.ref.key.removeprefix(NOTES_PREFIX)

    async def owner_of(self, mark: str) -> str:
        """Return the id of the token that began an upload; empty when it is no longer open."""
        ticket = await self._load_note(mark)
        return ticket.owner if ticket else ""

    async def remove_ended(self, mark: str) -> None:
        """Remove an upload whose token was revoked or has expired: its presigned URLs stop working."""
        if ticket := await self._load_note(mark):
            await self.remove(ticket)

    async def remove_expired_forever(self) -> None:
        """Remove expired uploads periodically until cancelled."""
        await periodically(self.remove_expired, CLEANUP_SECONDS, event="uploads.not_tidied", survives=PenstockError)

    async def remove_expired(self) -> None:
        """Remove uploads that were not completed in time."""
        before, counted, there = datetime.now(UTC) - self._ttl, self._counts.known(), set[str]()
        async for page in self._store.list(self._settings.staging_bucket, prefix=NOTES_PREFIX):
            marks = [one.ref.key.removeprefix(NOTES_PREFIX) for one in page]
            there.update(marks)
            await map_concurrently(self._count_foreign, self._counts.unknown(marks), limit=MAX_CONCURRENT)
            for one in page:
                if one.last_modified <= before:
                    await self._expire(one.ref.key.removeprefix(NOTES_PREFIX))
        for mark in counted - there:
            self._counts.end(mark)  # ended by another process

    async def _count_foreign(self, mark: str) -> None:
        """Count an upload that another process, or this one before a restart, began."""
        if owner := await self.owner_of(mark):
            self._counts.note(mark, owner)

    async def _forget(self, mark: str) -> None:
        await self._store.delete(self._note_ref(mark))
        self._counts.end(mark)

    async def _expire(self, mark: str) -> None:
        if ticket := await self._load_note(mark):
            await self._store.uploads.abort(_ref(ticket), ticket.upload_id)
            log.info("audit.upload_expired", by=ticket.owner, bucket=ticket.bucket, key=ticket.key)
        await self._forget(mark)

    async def _load_note(self, mark: str) -> Ticket | None:
        try:
            _, signed_ticket = await self._store.read(self._note_ref(mark))
        except ObjectGone:
            return None
        return self._ticket_signer.unsign(signed_ticket.decode("utf-8", "replace"))

    async def _finished_etag(self, ticket: Ticket) -> str:
        """Return the etag of the object that an upload has become, if it has."""
        try:
            info = await self._store.head(_ref(ticket))
        except ObjectGone:
            raise _unknown() from None
        if info.metadata.get(UPLOAD_ID_KEY) != ticket.mark:
            raise _unknown()
        await self._forget(ticket.mark)
        return info.etag

    def _presign(self, ticket: Ticket, number: int) -> str:
        return self._signer.presign(
            "PUT",
            self._settings.store_url,
            path_of(ticket.bucket, ticket.key),
            {"partNumber": str(number), "uploadId": ticket.upload_id},
            headers={"content-length": str(ticket.size_of(number))},
            seconds=SIGNED_SECONDS,
        )

    def _note_ref(self, mark: str) -> ObjectRef:
        return ObjectRef(self._settings.staging_bucket, f"{NOTES_PREFIX}{mark}")


def _ref(ticket: Ticket) -> ObjectRef:
    return ObjectRef(ticket.bucket, ticket.key)


def _unknown() -> HttpProblem:
    return HttpProblem("NO_SUCH_UPLOAD", "there is no such upload, or it has ended: begin one with POST /multipart")
