"""Upload of files to a bucket: small files in one request, large ones as resumable multipart uploads.

The parts in flight bound the memory. A resumed upload compares each part on the server with the file by MD5.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from services.cli.adapters import files
from services.cli.adapters.journal import Entry, Journal, Stamp
from services.cli.adapters.objects import StoredObject, head
from services.cli.core.address import Address
from services.cli.core.parts import MAX_OBJECT, PART, Part, max_in_flight, multipart_etag, part_size, split
from services.cli.core.text import human_bytes
from shared.errors import Rejected


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks as a group; the first error cancels the others and is raised itself, not as a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """User metadata, content type, digest to declare (`md5`, `sha256` or none) and maximum requests in flight."""

    metadata: Mapping[str, str]
    content_type: Callable[[Path], str]
    checksum: str = ""
    parallel: int = 8

    async def user_metadata(self, path: Path) -> dict[str, str]:
        """Return the user metadata of a file, with its digest if `checksum` is set."""
        digests = {self.checksum: await asyncio.to_thread(files.digest, path, self.checksum)} if self.checksum else {}
        return {**self.metadata, **digests}


class Uploader:
    """Stores files in a bucket; calls `on_bytes` with the number of bytes stored, including those of resumed parts."""

    def __init__(
        self, client: Any, journal: Journal, options: UploadOptions, on_bytes: Callable[[int], object]
    ) -> None:
        self._client = client
        self._journal = journal
        self._options = options
        self._on_bytes = on_bytes
        self._requests = asyncio.Semaphore(options.parallel)

    async def store(self, path: Path, address: Address) -> StoredObject:
        """Store one file, unless an earlier run of the same command stored it.

        Raises:
            Rejected: UNREADABLE, TOO_LARGE or FILE_CHANGED.

        """
        stamp = files.stamp_of(path)
        if stamp.size > MAX_OBJECT:
            raise Rejected(
                "TOO_LARGE", f"{path} has {human_bytes(stamp.size)}, and an S3 object at most 5 TiB: split the file"
            )
        entry = self._journal.find(address)
        if entry and entry.etag and entry.stamp == stamp and await self._is_stored(address, entry.etag):
            self._on_bytes(stamp.size)
            return StoredObject(entry.etag, stamp.size)
        etag = await (self._put if stamp.size <= PART else self._put_parts)(path, address, stamp)
        self._journal.record(Entry(address.bucket, address.key, stamp, etag=etag))
        return StoredObject(etag, stamp.size)

    async def _is_stored(self, address: Address, etag: str) -> bool:
        stored = await head(self._client, address)
        return stored is not None and stored.etag == etag

    async def _headers(self, path: Path) -> dict[str, Any]:
        return {"Metadata": await self._options.user_metadata(path), "ContentType": self._options.content_type(path)}

    async def _put(self, path: Path, address: Address, stamp: Stamp) -> str:
        async with self._requests:
            headers = await self._headers(path)
            body = await files.read(path, 0, stamp.size)
            check_unchanged(path, stamp)
            answer = await self._client.put_object(Bucket=address.bucket, Key=address.key, Body=body, **headers)
        self._on_bytes(stamp.size)
        return str(answer["ETag"]).strip('"')

    async def _put_parts(self, path: Path, address: Address, stamp: Stamp) -> str:
        part_bytes = part_size(stamp.size)
        upload_id, uploaded = await self._resume(address, stamp) or (await self._create(path, address, stamp), {})
        upload = {"Bucket": address.bucket, "Key": address.key, "UploadId": upload_id}
        in_memory = asyncio.Semaphore(max_in_flight(part_bytes, self._options.parallel))
        try:
            async with task_group() as group:
                parts = list(split(stamp.size, part_bytes))
                tasks = [group.create_task(self._put_part(path, part, upload, uploaded, in_memory)) for part in parts]
            check_unchanged(path, stamp)
        except Rejected:
            await self._client.abort_multipart_upload(**upload)
            raise
        return await self._complete(address, upload, [task.result() for task in tasks])

    async def _create(self, path: Path, address: Address, stamp: Stamp) -> str:
        target = {"Bucket": address.bucket, "Key": address.key}
        answer = await self._client.create_multipart_upload(**target, **await self._headers(path))
        self._journal.record(Entry(address.bucket, address.key, stamp, upload_id=answer["UploadId"]))
        return str(answer["UploadId"])

    async def _resume(self, address: Address, stamp: Stamp) -> tuple[str, dict[int, tuple[str, int]]] | None:
        """Return the id of this file's open upload and its parts; abort the upload if the file has changed."""
        entry = self._journal.find(address)
        if entry is None or not entry.upload_id:
            return None
        upload = {"Bucket": address.bucket, "Key": address.key, "UploadId": entry.upload_id}
        try:
            if entry.stamp != stamp:
                await self._client.abort_multipart_upload(**upload)
                return None
            pages = self._client.get_paginator("list_parts").paginate(**upload)
            found = [part async for page in pages for part in page.get("Parts", ())]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise
            return None
        return entry.upload_id, {part["PartNumber"]: (part["ETag"].strip('"'), part["Size"]) for part in found}

    async def _put_part(
        self,
        path: Path,
        part: Part,
        upload: dict[str, Any],
        uploaded: Mapping[int, tuple[str, int]],
        in_memory: asyncio.Semaphore,
    ) -> str:
        async with in_memory, self._requests:
            data = await files.read(path, part.start, part.size)
            etag, size = uploaded.get(part.number, ("", 0))
            if size != part.size or etag != await asyncio.to_thread(_md5, data):
                answer = await self._client.upload_part(**upload, PartNumber=part.number, Body=data)
                etag = answer["ETag"].strip('"')
        self._on_bytes(part.size)
        return etag

    async def _complete(self, address: Address, upload: dict[str, Any], etags: list[str]) -> str:
        """Complete the upload; NoSuchUpload with the expected ETag stored means that an earlier answer was lost."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        try:
            answer = await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except ClientError as error:
            expected = multipart_etag(etags)
            if error.response["Error"]["Code"] == "NoSuchUpload" and await self._is_stored(address, expected):
                return expected
            raise
        return str(answer["ETag"]).strip('"')


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def check_unchanged(path: Path, stamp: Stamp) -> None:
    """Raise Rejected (FILE_CHANGED) if the file no longer has this stamp."""
    if files.stamp_of(path) != stamp:
        raise files.file_changed(path)
