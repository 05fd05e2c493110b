"""Explicit multipart uploads for objects written over several HTTP requests; otherwise use `ObjectStore.write`."""

import re
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterable, Mapping, Sequence
from datetime import datetime
from html import escape, unescape
from typing import Final

from shared.errors import Outage
from shared.storage.journal import AbandonedUpload
from shared.storage.objects import ObjectGone, ObjectInfo, ObjectRef, Part
from shared.storage.responses import describe_stored
from shared.storage.transport import Transport

MIN_PART_BYTES: Final = 5 << 20
"""S3's minimum size of all parts but the last."""
MAX_PARTS: Final = 10_000
CRC64: Final = "x-amz-checksum-crc64nvme"
FULL_CRC64: Final[Mapping[str, str]] = {
    "x-amz-checksum-algorithm": "CRC64NVME",
    "x-amz-checksum-type": "FULL_OBJECT",
}
"""Headers that make the store keep a checksum over the whole object."""
_UPLOAD_ID: Final = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_ETAG: Final = re.compile(rb"<ETag>([^<]+)</ETag>")
_XML: Final = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class MultipartUploads:
    """Multipart upload requests to one store; errors are those of `ObjectStore`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def begin(self, ref: ObjectRef, headers: Mapping[str, str]) -> str:
        """Begin an upload of an object with `headers`; return the upload id."""
        _, answer = await self._transport.request("write", "POST", ref, query={"uploads": ""}, headers=headers)
        found = _UPLOAD_ID.search(answer)
        if found is None:
            raise Outage(f"the object store returned no upload id for {ref}")
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
        headers = {"content-length": str(size), **({CRC64: checksum} if checksum else {})}
        answer, _ = await self._transport.request("write", "PUT", ref, query=query, headers=headers, body=body)
        return Part(number, answer["ETag"], size, checksum)

    async def parts(self, ref: ObjectRef, upload_id: str) -> list[Part]:
        """Return the stored parts by number; raise ObjectGone if there is no such upload."""
        found: list[Part] = []
        while True:
            query = {"uploadId": upload_id, "part-number-marker": str(found[-1].number if found else 0)}
            _, answer = await self._transport.request("list parts of", "GET", ref, query=query)
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
        """Complete an upload; `begun_with` are the headers of `begin`, used only for the returned ObjectInfo."""
        elements = "".join(_to_xml(one) for one in parts)
        body = f"<CompleteMultipartUpload>{elements}</CompleteMultipartUpload>".encode()
        query = {"uploadId": upload_id}
        answer, xml = await self._transport.request("write", "POST", ref, query=query, headers=headers, body=body)
        found = _ETAG.search(xml)
        if found is None:
            raise Outage(f"the object store returned no etag for {ref}; the object may exist")
        size = sum(one.size for one in parts)
        return describe_stored(ref, answer, unescape(found[1].decode()), size, begun_with or {})

    async def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Abort an upload and remove its parts; a missing upload is not an error."""
        try:
            await self._transport.request("abort the upload of", "DELETE", ref, query={"uploadId": upload_id})
        except ObjectGone:
            return

    async def abort_abandoned(self, left: AbandonedUpload) -> int:
        """Abort an abandoned upload; without an id, all uploads of its key that began since. Return the number."""
        ids = [left.upload_id] if left.upload_id else await self._begun_since(left.ref, left.begun_at)
        for upload_id in ids:
            await self.abort(left.ref, upload_id)
        return len(ids)

    async def _begun_since(self, ref: ObjectRef, at: datetime) -> list[str]:
        query = {"uploads": "", "prefix": ref.key}
        _, answer = await self._transport.request("list uploads of", "GET", ObjectRef(ref.bucket, ""), query=query)
        root = ET.fromstring(answer)  # noqa: S314 - our own object store wrote it
        return [
            _text(one, "UploadId")
            for one in root.iterfind(f"{_XML}Upload")
            if _text(one, "Key") == ref.key and datetime.fromisoformat(_text(one, "Initiated")) >= at
        ]


def _to_xml(part: Part) -> str:
    """Return the element for the CompleteMultipartUpload request."""
    checksum = f"<ChecksumCRC64NVME>{part.checksum}</ChecksumCRC64NVME>" if part.checksum else ""
    return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag>{checksum}</Part>"


def _text(entry: ET.Element, name: str) -> str:
    return entry.findtext(f"{_XML}{name}") or ""
