"""Uploads: bytes of a request become objects, whole or not at all."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass

import structlog

from services.ingress.adapters.bodies import Body, Field, File
from services.ingress.adapters.disk import Disk
from services.ingress.adapters.pools import limiter
from services.ingress.settings import IngressSettings
from shared.errors import Rejected
from shared.storage import ObjectInfo, ObjectRef, ObjectStore, ObjectWriter

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

    async def whole(
        self, body: Body, ref: ObjectRef, *, content_type: str | None, metadata: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        """Store a whole body as one object."""
        async with self.slot(body), self.writing(body, ref, content_type, metadata) as writer:
            async for chunk in body.chunks():
                await writer.write(chunk)
        return writer.info

    async def form(
        self, body: Body, place: Place, *, field: str, metadata: Mapping[str, str] | None = None
    ) -> Received:
        """Store the one file of a form that comes in `field`; it appears when the whole form was good.

        Raises Rejected: NO_FILE when there is none, TOO_MANY_FILES when there are more.
        """
        values: dict[str, str] = {}
        taken: tuple[File, ObjectWriter] | None = None
        async with self.slot(body), AsyncExitStack() as stack:
            async for part in body.form():
                if isinstance(part, Field):
                    values[part.name] = part.value
                elif isinstance(part, File):
                    if taken is not None or part.field != field:
                        raise _unwanted(part, field)
                    ref = place(part, values)
                    taken = part, await stack.enter_async_context(self.writing(body, ref, part.content_type, metadata))
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
    async def writing(
        self, body: Body, ref: ObjectRef, content_type: str | None, metadata: Mapping[str, str] | None
    ) -> AsyncIterator[ObjectWriter]:
        """Write one object that is no larger than the body it comes in."""
        async with self._store.write(ref, metadata=metadata, content_type=content_type, limit=body.length) as writer:
            yield writer
        log.info("audit.object_stored", bucket=ref.bucket, key=ref.key, size=writer.size, etag=writer.info.etag)


def _unwanted(file: File, field: str) -> Rejected:
    if file.field == field:
        return Rejected("TOO_MANY_FILES", f"the form has more than one file in {field!r}: send them one by one")
    return Rejected("WRONG_FIELD", f"the form has a file in its field {file.field!r}: send it in {field!r}")
