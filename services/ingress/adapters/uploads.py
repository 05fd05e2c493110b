"""Uploads: bytes of a request become objects, whole or not at all."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass

import structlog

from services.ingress.adapters.bodies import Body, Field, File
from services.ingress.adapters.disk import Disk
from services.ingress.adapters.permit_pools import limiter
from services.ingress.core.checksums import Check
from services.ingress.core.conditions import Precondition, Validators
from services.ingress.core.write_headers import ObjectHeaders, late_field
from services.ingress.settings import IngressSettings
from shared.errors import Rejected
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore, ObjectWriter

log = structlog.get_logger()

Place = Callable[[File, Mapping[str, str]], ObjectRef]
"""Where a file of a form goes; the fields are those that came before it."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a form brought: its plain fields, its file, and what that became."""

    fields: Mapping[str, str]
    file: File
    info: ObjectInfo


class Uploads:
    """Writes bodies into the store, so many at a time as memory allows."""

    def __init__(self, store: ObjectStore, disk: Disk, settings: IngressSettings) -> None:
        self._store = store
        self._disk = disk
        self._limiter = limiter("uploads", settings)

    async def whole(self, body: Body, ref: ObjectRef, headers: ObjectHeaders) -> ObjectInfo:
        """Store a whole body as one object.

        Raises ObjectSuperseded or Problem (SUPERSEDED) where a condition of the request does not hold.
        """
        async with self.slot(body), self.writing(body, ref, headers) as writer:
            async for chunk in body.chunks():
                await writer.write(chunk)
        return writer.info

    async def form(self, body: Body, place: Place, *, field: str, headers: ObjectHeaders) -> Received:
        """Store the one file of a form that comes in `field`; it appears when the whole form was good.

        Raises Rejected: NO_FILE when there is none, TOO_MANY_FILES when there are more, LATE_FIELD for what says
        something of the file and comes behind it; what `whole` does for a condition that does not hold.
        """
        values: dict[str, str] = {}
        taken: tuple[File, CheckedWriter] | None = None
        async with self.slot(body), AsyncExitStack() as stack:
            async for part in body.form():
                if isinstance(part, Field):
                    if taken is not None and late_field(part.name):
                        raise Rejected("LATE_FIELD", f"the field {part.name!r} comes behind the file: send it before")
                    values[part.name] = part.value
                elif isinstance(part, File):
                    if taken is not None or part.field != field:
                        raise _unwanted(part, field)
                    ref = place(part, values)
                    said = headers.with_part(part.headers, part.content_type, values)
                    taken = part, await stack.enter_async_context(self.writing(body, ref, said))
                elif taken is not None:
                    await taken[1].write(part)
            if taken is None:
                raise Rejected("NO_FILE", f"the form has no file in its field {field!r}: send one there")
        return Received(values, taken[0], taken[1].info)

    @asynccontextmanager
    async def slot(self, body: Body | None = None) -> AsyncIterator[None]:
        """Hold a permit for an upload, and room on the disk; refuse at once past its threshold."""
        self._disk.refuse_when_full()
        async with self._limiter.hold():
            with self._disk.room(body) if body else nullcontext():
                yield

    @asynccontextmanager
    async def writing(self, body: Body, ref: ObjectRef, headers: ObjectHeaders) -> AsyncIterator["CheckedWriter"]:
        """Write one object that is no larger than the body it comes in."""
        async with self._store.write(
            ref,
            metadata=headers.metadata,
            content_type=headers.content_type,
            headers=headers.kept,
            limit=body.limit,
            if_match=await self.required(ref, headers.precondition),
            # its word is the uploader's, and without one of theirs there is none
            keep_checksum=body.is_checked or bool(headers.checksums),
        ) as writer:
            checked = CheckedWriter(writer, Check(headers.checksums))
            yield checked
            checked.verify()
        log.info("audit.object_stored", bucket=ref.bucket, key=ref.key, size=writer.size, etag=writer.info.etag)

    async def required(self, ref: ObjectRef, precondition: Precondition) -> str | None:
        """Return what the store must still find at `ref` for the precondition to hold; None for anything.

        Raises Problem: SUPERSEDED when it does not hold now; nothing of the body needs to come for that.
        """
        if not precondition:
            return None
        try:
            info = await self._store.head(ref)
        except ObjectGone:
            return precondition.require(None)
        return precondition.require(Validators(info.etag, info.last_modified))


class CheckedWriter:
    """One object on its way, and the checksums that its uploader has sent for it."""

    def __init__(self, writer: ObjectWriter, check: Check) -> None:
        self._writer = writer
        self._check = check

    @property
    def info(self) -> ObjectInfo:
        """What was stored; there once the block has ended."""
        return self._writer.info

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._check.update(chunk)
        await self._writer.write(chunk)

    def verify(self) -> None:
        """Raise Problem (CHECKSUM_MISMATCH) when these are not the bytes that were meant."""
        self._check.verify()


def _unwanted(file: File, field: str) -> Rejected:
    if file.field == field:
        return Rejected("TOO_MANY_FILES", f"the form has more than one file in {field!r}: send them one by one")
    return Rejected("WRONG_FIELD", f"the form has a file in its field {file.field!r}: send it in {field!r}")
