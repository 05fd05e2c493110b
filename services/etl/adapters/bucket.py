"""The bucket, looked at: what is there now, whatever an event said."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.etl.core.datasets import Dataset, is_compressed
from services.etl.core.decoding import is_gzip
from services.etl.core.differences import to_the_second
from services.etl.core.pictures import HEAD_BYTES, TYPES, PictureProbe
from services.etl.core.reading import is_small, read_small
from services.etl.core.recognizing import recognized_image
from services.etl.core.refusing import Refused
from services.etl.core.values import Found, Known, Picture, Rows, Wanted
from services.etl.settings import EtlSettings
from shared.errors import Kind, Rejected, kind_of, one_line
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore, ObjectSuperseded
from shared.text import is_unsafe

LOOK_SECONDS: Final = 30.0
"""How long one object may hold up its batch."""
THREAD_BYTES: Final = 64 << 10
"""A file above this is parsed beside the loop."""
EXPANDED: Final = 4
"""How many times more than a small file's bytes a compressed one may hold."""


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A file that is larger than what was announced, or cannot be read now: it has to be work of its own."""

    wanted: Wanted


class Bucket:
    """Objects as they are now."""

    def __init__(self, store: ObjectStore, settings: EtlSettings) -> None:
        self.store = store
        self._settings = settings
        self._room = asyncio.Semaphore(settings.etl_in_flight)

    async def look_all(self, wanted: Sequence[tuple[Wanted, Known]]) -> tuple[list[Found], list[Wanted]]:
        """Look at small files and images, many at a time; return what is there, and which of them are large."""
        looks: list[Found | TooLarge] = []
        waiting = iter(wanted)

        async def work_on() -> None:
            looks.extend([await self._look(*one) for one in waiting])

        try:
            async with asyncio.TaskGroup() as crew:
                for _ in range(min(len(wanted), self._settings.etl_in_flight)):
                    crew.create_task(work_on())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        found = [one for one in looks if isinstance(one, Found)]
        return found, [one.wanted for one in looks if isinstance(one, TooLarge)]

    async def head(self, wanted: Wanted) -> ObjectInfo | None:
        """Describe an object; None: it is not there."""
        try:
            return await self.store.head(ref_of(wanted))
        except ObjectGone:
            return None

    async def pages(self, dataset: Dataset) -> AsyncGenerator[list[ObjectInfo], None]:
        """List what is a dataset's page by page, keys in order."""
        async for page in self.store.list(dataset.bucket, prefix=dataset.prefix):
            yield [one for one in page if not is_unsafe(one.ref.key) and dataset.kind_of(one.ref.bucket, one.ref.key)]

    async def _look(self, wanted: Wanted, known: Known) -> Found | TooLarge:
        async with self._room:
            look = self._image if wanted.kind == "image" else self._rows
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    return await look(wanted, known)
            except ObjectGone:
                return Found(wanted, known)
            except Exception as error:
                if kind_of(error) is not Kind.OUTAGE:
                    raise
                await self.store.check()
                log.warning("object.set_aside", bucket=wanted.bucket, key=wanted.key, reason=one_line(error))
                return TooLarge(wanted)

    async def _rows(self, wanted: Wanted, known: Known) -> Found | TooLarge:
        limit = self._settings.etl_large_bytes
        try:
            info, body = await self.store.read(ref_of(wanted), limit=limit)
        except Rejected as refusal:
            if refusal.code != "SIZE_DIFFERS":
                raise
            return TooLarge(replace(wanted, size=limit + 1))
        if len(body) > THREAD_BYTES or is_compressed(wanted.key) or is_gzip(body):
            rows = await asyncio.to_thread(self._parse, body, wanted)
        else:
            rows = self._parse(body, wanted)
        if rows is None:
            return TooLarge(replace(wanted, size=limit + 1))
        return Found(wanted, known, info.etag, info.size, to_the_second(info.last_modified), rows=rows)

    def _parse(self, body: bytes, wanted: Wanted) -> Rows | None:
        """Read a file whole; None: it expands to what has to be streamed."""
        if not is_small(body, wanted.key, EXPANDED * self._settings.etl_large_bytes):
            return None
        return read_small(body, wanted.key, wanted.dataset, line_bytes=self._settings.etl_line_bytes)

    async def _image(self, wanted: Wanted, known: Known) -> Found:
        info, picture, head = await self._picture(ref_of(wanted))
        rejects = () if picture else (no_image(head).reject,)
        stored_at = to_the_second(info.last_modified)
        return Found(wanted, known, info.etag, info.size, stored_at, picture=picture, rejects=rejects)

    async def _picture(self, ref: ObjectRef) -> tuple[ObjectInfo, Picture | None, bytes]:
        """Read as much of an image as tells what it is; one that is replaced meanwhile is read again."""
        while True:
            try:
                info, head = await self.store.read(ref, end=HEAD_BYTES)
                return info, await self._looked_into(info, head), head
            except ObjectSuperseded:
                continue
            except Rejected as refusal:
                if refusal.code != "RANGE_PAST_END":
                    raise
                info = await self.store.head(ref)
                if not info.size:
                    return info, None, b""

    async def _looked_into(self, info: ObjectInfo, head: bytes) -> Picture | None:
        probe = PictureProbe()
        probe.give(head)
        while probe.need:
            start, count = probe.need
            probe.give(await self._part(info, start, min(start + count, info.size or 0)))
        return probe.picture

    async def _part(self, info: ObjectInfo, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        async with self.store.stream(info.ref, etag=info.etag, start=start, end=end) as pieces:
            return b"".join([bytes(piece) async for piece in pieces])


def ref_of(wanted: Wanted) -> ObjectRef:
    """Name an object as it is now, whatever version was told of."""
    return ObjectRef(wanted.bucket, wanted.key)


def no_image(head: bytes) -> Refused:
    """Refuse an image that is none, saying what it is as far as its first bytes tell."""
    what = found.what if (found := recognized_image(head)) else "no picture of a type that is known"
    return Refused("NOT_AN_IMAGE", f"the file is {what}; store it again as {TYPES}")
