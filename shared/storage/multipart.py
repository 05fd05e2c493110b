"""Multipart uploads by hand, for what is written in parts over many requests; `ObjectStore.write` does the rest."""

import re
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape, unescape
from typing import TYPE_CHECKING, Final

from shared.errors import Outage
from shared.storage.journal import AbandonedUpload
from shared.storage.objects import ObjectGone, ObjectInfo, ObjectRef

if TYPE_CHECKING:
    from shared.storage.store import S3

MIN_PART_BYTES: Final = 5 << 20
"""The least bytes that S3 takes for a part that is not the last."""
MAX_PARTS: Final = 10_000
CRC64: Final = "x-amz-checksum-crc64nvme"
FULL_CRC64: Final[Mapping[str, str]] = {
    "x-amz-checksum-algorithm": "CRC64NVME",
    "x-amz-checksum-type": "FULL_OBJECT",
}
"""Begins an upload of which the store keeps a checksum over the whole."""
_UPLOAD_ID: Final = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_ETAG: Final = re.compile(rb"<ETag>([^<]+)</ETag>")
_ERROR: Final = re.compile(rb"<Error>.*?<Code>(\w+)</Code>", re.DOTALL)
_XML: Final = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the store has: its number from 1, its etag as told, its bytes, its CRC64 if it was sent with one."""

    number: int
    etag: str
    size: int
    checksum: str = ""

    def listed(self) -> str:
        """Write it for the completion of its upload."""
        checksum = f"<ChecksumCRC64NVME>{self.checksum}</ChecksumCRC64NVME>" if self.checksum else ""
        return f"<Part><PartNumber>{self.number}</PartNumber><ETag>{escape(self.etag)}</ETag>{checksum}</Part>"


class MultipartUploads:
    """The calls of one store; errors are those of `ObjectStore`."""

    def __init__(self, store: "S3") -> None:
        self._store = store

    async def begin(self, ref: ObjectRef, headers: Mapping[str, str]) -> str:
        """Begin an upload of an object with these headers; return its id."""
        _, answer = await self._store.request("write", "POST", ref, query={"uploads": ""}, headers=headers)
        found = _UPLOAD_ID.search(answer)
        if found is None:
            raise Outage(f"the object store began no upload of {ref}")
        return found[1].decode()

    async def send(  # noqa: PLR0913 - the parts of a part
        self,
        ref: ObjectRef,
        upload_id: str,
        number: int,
        body: bytes | AsyncIterable[bytes],
        *,
        size: int,
        checksum: str = "",
    ) -> Part:
        """Send one part of `size` bytes; `checksum` is its CRC64/NVME in base64."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        sent = {"content-length": str(size), **({CRC64: checksum} if checksum else {})}
        answer, _ = await self._store.request("write", "PUT", ref, query=query, headers=sent, body=body)
        return Part(number, answer["ETag"], size, checksum)

    async def parts(self, ref: ObjectRef, upload_id: str) -> list[Part]:
        """Return the parts that the store has, by number; ObjectGone when there is no such upload."""
        found: list[Part] = []
        while True:
            query = {"uploadId": upload_id, "part-number-marker": str(found[-1].number if found else 0)}
            _, answer = await self._store.request("list parts of", "GET", ref, query=query)
            root = ET.fromstring(answer)  # noqa: S314 - our own object store wrote it
            found += [
                Part(
                    int(_text(one, "PartNumber")),
                    _text(one, "ETag"),
                    int(_text(one, "Size")),
                    _text(one, "ChecksumCRC64NVME"),
                )
                for one in root.iterfind(f"{_XML}Part")
            ]
            if root.findtext(f"{_XML}IsTruncated") != "true":
                return found

    async def complete(
        self,
        ref: ObjectRef,
        upload_id: str,
        parts: Sequence[Part],
        *,
        headers: Mapping[str, str] | None = None,
        begun_with: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Make the object of its parts; `begun_with` are the headers of `begin`, for the description alone."""
        listed = "".join(one.listed() for one in parts)
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        query = {"uploadId": upload_id}
        answer, said = await self._store.request("write", "POST", ref, query=query, headers=headers, body=body)
        found = _ETAG.search(said)
        if found is None:
            raise Outage(f"the object store did not say what became of {ref}")
        size = sum(one.size for one in parts)
        return self._store.describe_stored(ref, answer, unescape(found[1].decode()), size, begun_with or {})

    async def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Remove an upload with its parts; one that is not there is no error."""
        try:
            await self._store.request("abort the upload of", "DELETE", ref, query={"uploadId": upload_id})
        except ObjectGone:
            return

    async def abort_abandoned(self, left: AbandonedUpload) -> int:
        """Remove what a dead process left; where it died before it knew the id, what was begun since then."""
        ids = [left.upload_id] if left.upload_id else await self._begun_since(left.ref, left.begun_at)
        for upload_id in ids:
            await self.abort(left.ref, upload_id)
        return len(ids)

    async def _begun_since(self, ref: ObjectRef, at: datetime) -> list[str]:
        query = {"uploads": "", "prefix": ref.key}
        _, answer = await self._store.request("list uploads of", "GET", ObjectRef(ref.bucket, ""), query=query)
        root = ET.fromstring(answer)  # noqa: S314 - our own object store wrote it
        return [
            _text(one, "UploadId")
            for one in root.iterfind(f"{_XML}Upload")
            if _text(one, "Key") == ref.key and datetime.fromisoformat(_text(one, "Initiated")) >= at
        ]


def error_in(answer: bytes) -> str:
    """Return the code of an error that came under status 200, as a completion's may; empty when all is well.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    found = _ERROR.search(answer) if len(answer) < _LONG else None
    return found[1].decode() if found else ""


_LONG: Final = 4096
"""Bytes of an answer that is no error: a listing, in which a key may say anything."""


def _text(entry: ET.Element, name: str) -> str:
    return entry.findtext(f"{_XML}{name}") or ""
