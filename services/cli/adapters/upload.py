"""One file to one object: small files in one request, large ones in parts that survive an interruption.

Memory is bounded by the parts in flight. What was interrupted goes on: each part that the server has is
compared by MD5 with the file as it is now.
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
from services.cli.adapters.objects import Stored, head
from services.cli.core.address import Address
from services.cli.core.parts import MAX_OBJECT, PART, Part, cut, etag_of, in_flight, part_size
from services.cli.core.text import human_bytes
from shared.errors import Rejected


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks as a group; the first error ends the others and comes out alone."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


@dataclass(frozen=True, slots=True)
class Manners:
    """How objects are stored: their user metadata, content type, declared digest, and requests in flight."""

    metadata: Mapping[str, str]
    content_type: Callable[[Path], str]
    checksum: str = ""
    parallel: int = 8

    async def declared(self, path: Path) -> dict[str, str]:
        """Return the user metadata of a file, its digest among it where that is wanted."""
        digests = {self.checksum: await asyncio.to_thread(files.digest, path, self.checksum)} if self.checksum else {}
        return {**self.metadata, **digests}


class Uploader:
    """Stores files in a bucket; `on_bytes` hears of bytes that are safe, resumed ones included."""

    def __init__(self, client: Any, journal: Journal, manners: Manners, on_bytes: Callable[[int], object]) -> None:
        self._client = client
        self._journal = journal
        self._manners = manners
        self._on_bytes = on_bytes
        self._slots = asyncio.Semaphore(manners.parallel)

    async def store(self, path: Path, address: Address) -> Stored:
        """Store one file; what an earlier run of the same command stored already is only looked at.

        Raises:
            Rejected: the file cannot be read, is too large, or changes while it is read.

        """
        stamp = files.stamp_of(path)
        if stamp.size > MAX_OBJECT:
            raise Rejected(
                "TOO_LARGE", f"{path} has {human_bytes(stamp.size)}; an S3 object has at most 5 TiB; split it"
            )
        known = self._journal.find(address)
        if known and known.etag and known.stamp == stamp and await self._is_stored(address, known.etag):
            self._on_bytes(stamp.size)
            return Stored(known.etag, stamp.size)
        etag = await (self._whole if stamp.size <= PART else self._in_parts)(path, address, stamp)
        self._journal.note(Entry(address.bucket, address.key, stamp, etag=etag))
        return Stored(etag, stamp.size)

    async def _is_stored(self, address: Address, etag: str) -> bool:
        stored = await head(self._client, address)
        return stored is not None and stored.etag == etag

    async def _headers(self, path: Path) -> dict[str, Any]:
        return {"Metadata": await self._manners.declared(path), "ContentType": self._manners.content_type(path)}

    async def _whole(self, path: Path, address: Address, stamp: Stamp) -> str:
        async with self._slots:
            headers = await self._headers(path)
            body = await asyncio.to_thread(files.read, path, 0, stamp.size)
            check_unchanged(path, stamp)
            answer = await self._client.put_object(Bucket=address.bucket, Key=address.key, Body=body, **headers)
        self._on_bytes(stamp.size)
        return str(answer["ETag"]).strip('"')

    async def _in_parts(self, path: Path, address: Address, stamp: Stamp) -> str:
        each = part_size(stamp.size)
        upload, there = await self._resume(address, stamp) or (await self._open(path, address, stamp), {})
        where = {"Bucket": address.bucket, "Key": address.key, "UploadId": upload}
        room = asyncio.Semaphore(in_flight(each, self._manners.parallel))
        try:
            async with together() as group:
                parts = list(cut(stamp.size, each))
                sent = [group.create_task(self._part(path, part, where, there, room)) for part in parts]
            check_unchanged(path, stamp)
        except Rejected:
            await self._client.abort_multipart_upload(**where)
            raise
        return await self._complete(address, where, [task.result() for task in sent])

    async def _open(self, path: Path, address: Address, stamp: Stamp) -> str:
        where = {"Bucket": address.bucket, "Key": address.key}
        answer = await self._client.create_multipart_upload(**where, **await self._headers(path))
        self._journal.note(Entry(address.bucket, address.key, stamp, upload_id=answer["UploadId"]))
        return str(answer["UploadId"])

    async def _resume(self, address: Address, stamp: Stamp) -> tuple[str, dict[int, tuple[str, int]]] | None:
        """Return this file's open upload and the parts it has; the upload of an older file is dropped."""
        known = self._journal.find(address)
        if known is None or not known.upload_id:
            return None
        where = {"Bucket": address.bucket, "Key": address.key, "UploadId": known.upload_id}
        try:
            if known.stamp != stamp:
                await self._client.abort_multipart_upload(**where)
                return None
            pages = self._client.get_paginator("list_parts").paginate(**where)
            found = [part async for page in pages for part in page.get("Parts", ())]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise
            return None
        return known.upload_id, {part["PartNumber"]: (part["ETag"].strip('"'), part["Size"]) for part in found}

    async def _part(
        self,
        path: Path,
        part: Part,
        where: dict[str, Any],
        there: Mapping[int, tuple[str, int]],
        room: asyncio.Semaphore,
    ) -> str:
        async with room, self._slots:
            data = await asyncio.to_thread(files.read, path, part.start, part.size)
            has, size = there.get(part.number, ("", 0))
            if size != part.size or has != await asyncio.to_thread(_md5, data):
                answer = await self._client.upload_part(**where, PartNumber=part.number, Body=data)
                has = answer["ETag"].strip('"')
        self._on_bytes(part.size)
        return has

    async def _complete(self, address: Address, where: dict[str, Any], etags: list[str]) -> str:
        """Join the parts; when the answer to an earlier try was lost, the object itself tells."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        try:
            answer = await self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        except ClientError as error:
            expected = etag_of(etags)
            if error.response["Error"]["Code"] == "NoSuchUpload" and await self._is_stored(address, expected):
                return expected
            raise
        return str(answer["ETag"]).strip('"')


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def check_unchanged(path: Path, stamp: Stamp) -> None:
    """Raise Rejected when a file is no longer what its stamp says."""
    if files.stamp_of(path) != stamp:
        raise files.changed(path)
