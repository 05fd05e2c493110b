"""Fetch objects as they are now, whatever version an event announced."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.etl.adapters.small_files import is_small, read_small_file
from services.etl.core.datasets import Dataset, is_compressed
from services.etl.core.decoding import is_gzip
from services.etl.core.diff import truncate_to_second
from services.etl.core.file_types import detect_non_image
from services.etl.core.images import HEAD_BYTES, IMAGE_TYPES, ImageProbe
from services.etl.core.rejects import RejectedFile
from services.etl.core.values import FetchedFile, FileToLoad, ImageInfo, KnownObject, ParsedRows
from services.etl.settings import EtlSettings
from shared.concurrency import map_concurrently
from shared.errors import Kind, Rejected, kind_of, one_line
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectStore, ObjectSuperseded
from shared.text import is_unsafe

FETCH_SECONDS: Final = 30.0
"""Maximum seconds for one object of a batch."""
THREAD_BYTES: Final = 64 << 10
"""Larger files are parsed in a thread."""
MAX_EXPANSION: Final = 4
"""Maximum expanded size of a small compressed file, as a multiple of `etl_large_bytes`."""


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A file that must become leased work: it is larger than announced, or unreadable at the moment."""

    file: FileToLoad


class Bucket:
    """Reads the current version of objects."""

    def __init__(self, store: ObjectStore, settings: EtlSettings) -> None:
        self.store = store
        self._settings = settings
        self._in_flight = asyncio.Semaphore(settings.etl_in_flight)

    async def fetch_all(
        self, files: Sequence[tuple[FileToLoad, KnownObject]]
    ) -> tuple[list[FetchedFile], list[FileToLoad]]:
        """Fetch small files and images concurrently; return what was fetched, and the files that are too large."""

        async def fetch(file: tuple[FileToLoad, KnownObject]) -> FetchedFile | TooLarge:
            return await self._fetch(*file)

        results = await map_concurrently(fetch, files, limit=self._settings.etl_in_flight)
        fetched = [one for one in results if isinstance(one, FetchedFile)]
        return fetched, [one.file for one in results if isinstance(one, TooLarge)]

    async def head(self, file: FileToLoad) -> ObjectInfo | None:
        """Return the metadata of an object; None if it does not exist."""
        try:
            return await self.store.head(ref_of(file))
        except ObjectGone:
            return None

    async def pages(self, dataset: Dataset) -> AsyncGenerator[list[ObjectInfo], None]:
        """List the objects of a dataset page by page, in key order."""
        async for page in self.store.list(dataset.bucket, prefix=dataset.prefix):
            yield [one for one in page if not is_unsafe(one.ref.key) and dataset.kind_of(one.ref.bucket, one.ref.key)]

    async def _fetch(self, file: FileToLoad, known: KnownObject) -> FetchedFile | TooLarge:
        async with self._in_flight:
            fetch = self._fetch_image if file.kind == "image" else self._fetch_rows
            try:
                async with asyncio.timeout(FETCH_SECONDS):
                    return await fetch(file, known)
            except ObjectGone:
                return FetchedFile(file, known)
            except Exception as error:
                if kind_of(error) is not Kind.OUTAGE:
                    raise
                await self.store.check()
                log.warning("object.set_aside", bucket=file.bucket, key=file.key, reason=one_line(error))
                return TooLarge(file)

    async def _fetch_rows(self, file: FileToLoad, known: KnownObject) -> FetchedFile | TooLarge:
        limit = self._settings.etl_large_bytes
        try:
            info, body = await self.store.read(ref_of(file), limit=limit)
        except Rejected as error:
            if error.code != "SIZE_DIFFERS":
                raise
            return TooLarge(replace(file, size=limit + 1))
        if len(body) > THREAD_BYTES or is_compressed(file.key) or is_gzip(body):
            rows = await asyncio.to_thread(self._parse, body, file)
        else:
            rows = self._parse(body, file)
        if rows is None:
            return TooLarge(replace(file, size=limit + 1))
        return FetchedFile(file, known, info.etag, info.size, truncate_to_second(info.last_modified), rows=rows)

    def _parse(self, body: bytes, file: FileToLoad) -> ParsedRows | None:
        """Parse a whole file; return None if its expanded size requires streaming."""
        if not is_small(body, file.key, MAX_EXPANSION * self._settings.etl_large_bytes):
            return None
        return read_small_file(body, file.key, file.dataset, line_bytes=self._settings.etl_line_bytes)

    async def _fetch_image(self, file: FileToLoad, known: KnownObject) -> FetchedFile:
        info, image, head = await self._probe_image(ref_of(file))
        rejects = () if image else (not_an_image(head).reject,)
        stored_at = truncate_to_second(info.last_modified)
        return FetchedFile(file, known, info.etag, info.size, stored_at, image=image, rejects=rejects)

    async def _probe_image(self, ref: ObjectRef) -> tuple[ObjectInfo, ImageInfo | None, bytes]:
        """Read an image until its type and size are known; start over if it is replaced meanwhile."""
        while True:
            try:
                info, head = await self.store.read(ref, end=HEAD_BYTES)
                return info, await self._probe(info, head), head
            except ObjectSuperseded:
                continue
            except Rejected as error:
                if error.code != "RANGE_PAST_END":
                    raise
                info = await self.store.head(ref)
                if not info.size:
                    return info, None, b""

    async def _probe(self, info: ObjectInfo, head: bytes) -> ImageInfo | None:
        probe = ImageProbe()
        probe.feed(head)
        while probe.need:
            start, count = probe.need
            probe.feed(await self._read_range(info, start, min(start + count, info.size or 0)))
        return probe.image

    async def _read_range(self, info: ObjectInfo, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        async with self.store.stream(info.ref, etag=info.etag, start=start, end=end) as pieces:
            return b"".join([bytes(piece) async for piece in pieces])


def ref_of(file: FileToLoad) -> ObjectRef:
    """Return a reference to the current version of an object."""
    return ObjectRef(file.bucket, file.key)


def not_an_image(head: bytes) -> RejectedFile:
    """Return the error for a file that is not an image; name its actual type if it is recognized."""
    content = file_type.name if (file_type := detect_non_image(head)) else "not an image of a known type"
    return RejectedFile("NOT_AN_IMAGE", f"the file is {content}; store it again as {IMAGE_TYPES}")
