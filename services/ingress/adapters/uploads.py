"""Uploads: bytes of a request become objects, whole or not at all."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass

import structlog

from services.ingress.adapters.bodies import Body, Field, File
from services.ingress.adapters.disk import Disk
from services.ingress.adapters.permit_pools import limiter
from services.ingress.core.checksums import ChecksumVerifier
from services.ingress.core.conditions import Precondition, Validators
from services.ingress.core.write_headers import ObjectHeaders, must_precede_file
from services.ingress.settings import IngressSettings
from shared.errors import Rejected
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore, ObjectWriter

log = structlog.get_logger()

ChooseRef = Callable[[File, Mapping[str, str]], ObjectRef]
"""Choose the object for a file of a form; the fields are those before the file."""


@dataclass(frozen=True, slots=True)
class FormUpload:
    """What a form brought: its plain fields, its file, and what that became."""

    fields: Mapping[str, str]
    file: File
    info: ObjectInfo


class Uploads:
    """Write request bodies into the store, with a limit on concurrent uploads."""

    def __init__(self, store: ObjectStore, disk: Disk, settings: IngressSettings) -> None:
        self._store = store
        self._disk = disk
        self._limiter = limiter("uploads", settings)

    async def store_body(self, body: Body, ref: ObjectRef, headers: ObjectHeaders) -> ObjectInfo:
        """Store a whole body as one object.

        Raises ObjectSuperseded or Problem (SUPERSEDED) where a condition of the request does not hold.
        """
        async with self.admit(body), self.open_writer(body, ref, headers) as writer:
            async for chunk in body.chunks():
                await writer.write(chunk)
        return writer.info

    async def store_form(self, body: Body, choose_ref: ChooseRef, *, field: str, headers: ObjectHeaders) -> FormUpload:
        """Store the one file of a form in `field`; the object appears after the whole form was valid.

        Raises Rejected: NO_FILE, TOO_MANY_FILES, LATE_FIELD for metadata after the file; and what `store_body` raises
        for a failed precondition.
        """
        values: dict[str, str] = {}
        current: tuple[File, CheckedWriter] | None = None
        async with self.admit(body), AsyncExitStack() as stack:
            async for part in body.parts():
                if isinstance(part, Field):
                    if current is not None and must_precede_file(part.name):
                        raise Rejected("LATE_FIELD", f"the field {part.name!r} comes behind the file: send it before")
                    values[part.name] = part.value
                elif isinstance(part, File):
                    if current is not None or part.field != field:
                        raise _unexpected_file(part, field)
                    ref = choose_ref(part, values)
                    part_headers = headers.with_part(part.headers, part.content_type, values)
                    current = part, await stack.enter_async_context(self.open_writer(body, ref, part_headers))
                elif current is not None:
                    await current[1].write(part)
            if current is None:
                raise Rejected("NO_FILE", f"the form has no file in its field {field!r}: send one there")
        return FormUpload(values, current[0], current[1].info)

    @asynccontextmanager
    async def admit(self, body: Body | None = None) -> AsyncIterator[None]:
        """Hold a permit for an upload, and room on the disk; refuse at once past its threshold."""
        self._disk.refuse_when_full()
        async with self._limiter.hold():
            with self._disk.reserve(body) if body else nullcontext():
                yield

    @asynccontextmanager
    async def open_writer(self, body: Body, ref: ObjectRef, headers: ObjectHeaders) -> AsyncIterator["CheckedWriter"]:
        """Open a writer for one object, which is no larger than the body."""
        async with self._store.write(
            ref,
            metadata=headers.metadata,
            content_type=headers.content_type,
            headers=headers.stored,
            limit=body.limit,
            if_match=await self.required_etag(ref, headers.precondition),
            # the store's checksum vouches for the client's, so it is kept only with one
            keep_checksum=body.is_checked or bool(headers.checksums),
        ) as writer:
            checked = CheckedWriter(writer, ChecksumVerifier(headers.checksums))
            yield checked
            checked.verify()
        log.info("audit.object_stored", bucket=ref.bucket, key=ref.key, size=writer.size, etag=writer.info.etag)

    async def required_etag(self, ref: ObjectRef, precondition: Precondition) -> str | None:
        """Return the etag that the store must still find at `ref`; None without a precondition.

        Raises HttpProblem: SUPERSEDED when it does not hold now; nothing of the body needs to come for that.
        """
        if not precondition:
            return None
        try:
            info = await self._store.head(ref)
        except ObjectGone:
            return precondition.require_match(None)
        return precondition.require_match(Validators(info.etag, info.last_modified))


class CheckedWriter:
    """One object on its way, and the checksums that its uploader has sent for it."""

    def __init__(self, writer: ObjectWriter, check: ChecksumVerifier) -> None:
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


def _unexpected_file(file: File, field: str) -> Rejected:
    if file.field == field:
        return Rejected("TOO_MANY_FILES", f"the form has more than one file in {field!r}: send them one by one")
    return Rejected("WRONG_FIELD", f"the form has a file in its field {file.field!r}: send it in {field!r}")
