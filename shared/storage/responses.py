"""What S3's answers say: the description of an object from headers, and pages of listings from XML."""

import base64
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_plus

from shared.encoded_words import decode_words
from shared.object_headers import STORED_HEADERS
from shared.storage.objects import ObjectInfo, ObjectRef

META: Final = "x-amz-meta-"
_CHECKSUM: Final = "x-amz-checksum-"
_CHECKSUMS: Final = ("sha256", "sha1", "crc32", "crc32c", "crc64nvme")
_XML: Final = "{http://s3.amazonaws.com/doc/2006-03-01/}"
# objects that arrived within one second share a date, and are read one after another
_date = lru_cache(maxsize=256)(parsedate_to_datetime)


def describe(ref: ObjectRef, headers: Mapping[str, str]) -> ObjectInfo:
    """Describe an object by the headers of an answer to HEAD or GET."""
    return ObjectInfo(
        ref=ObjectRef(ref.bucket, ref.key, _version(headers)),
        etag=headers["ETag"].strip('"'),
        size=_whole_size(headers),
        last_modified=_date(headers["Last-Modified"]),
        content_type=None if (value := headers.get("Content-Type")) is None else _text(value),
        metadata={name: decode_words(_text(value)) for name, value in _own_metadata(headers).items()},
        headers={name: _text(value) for name, value in _stored_headers(headers).items()},
        checksums=whole_checksums(headers),
    )


def describe_stored(
    ref: ObjectRef, answer: Mapping[str, str], etag: str, size: int, headers: Mapping[str, str]
) -> ObjectInfo:
    """Describe an object just stored with `headers`; its time is this machine's clock."""
    return ObjectInfo(
        ref=ObjectRef(ref.bucket, ref.key, _version(answer)),
        etag=etag.strip('"'),
        size=size,
        last_modified=datetime.now(UTC),
        content_type=headers.get("content-type"),
        metadata=_own_metadata(headers),
        headers=_stored_headers(headers),
    )


def _version(headers: Mapping[str, str]) -> str | None:
    version_id = headers.get("x-amz-version-id")
    return None if version_id == "null" else version_id


def _whole_size(headers: Mapping[str, str]) -> int:
    """Return the object's size, also from the answer to a range request."""
    return int(headers.get("Content-Range", headers["Content-Length"]).rpartition("/")[2])


def _text(header: str) -> str:
    """Decode a header's value, with U+FFFD for invalid UTF-8."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _own_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    named = ((name.lower(), value) for name, value in headers.items())
    return {name.removeprefix(META): value for name, value in named if name.startswith(META)}


def _stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in STORED_HEADERS if name in headers}


def whole_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Return in hex the checksums over the object's bytes; skip those over checksums of parts, which end in `-N`."""
    if headers.get(f"{_CHECKSUM}type") == "COMPOSITE":
        return {}
    found = ((name, headers.get(f"{_CHECKSUM}{name}")) for name in _CHECKSUMS)
    return {name: base64.b64decode(value).hex() for name, value in found if value and "-" not in value}


Page = tuple[list[ObjectInfo], Mapping[str, str] | None]


def parse_page(bucket: str, body: bytes) -> Page:
    """Parse a page of a listing; return its objects and the query of the next page."""
    root = ET.fromstring(body)  # noqa: S314 - our own object store wrote it
    page = [_listed(bucket, entry) for entry in root.iterfind(f"{_XML}Contents")]
    token = root.findtext(f"{_XML}NextContinuationToken")
    return page, None if token is None else {"continuation-token": token}


def parse_version_page(bucket: str, body: bytes) -> Page:
    """Parse a page of a listing of versions; return the current objects and the query of the next page."""
    root = ET.fromstring(body)  # noqa: S314 - our own object store wrote it
    current = (one for one in root.iterfind(f"{_XML}Version") if one.findtext(f"{_XML}IsLatest") == "true")
    page = [_listed(bucket, entry) for entry in current]
    if root.findtext(f"{_XML}IsTruncated") != "true":
        return page, None
    key = unquote_plus(root.findtext(f"{_XML}NextKeyMarker", ""), errors="surrogateescape")
    version_id = root.findtext(f"{_XML}NextVersionIdMarker")
    return page, {"key-marker": key, **({"version-id-marker": version_id} if version_id else {})}


def _listed(bucket: str, entry: ET.Element) -> ObjectInfo:
    fields = {child.tag.removeprefix(_XML): child.text or "" for child in entry}
    described = entry.find(f"{_XML}UserMetadata")
    headers = {} if described is None else {one.tag.removeprefix(_XML).lower(): one.text or "" for one in described}
    version_id = None if (found := fields.get("VersionId")) == "null" else found
    return ObjectInfo(
        ref=ObjectRef(bucket, unquote_plus(fields["Key"], errors="surrogateescape"), version_id),
        etag=fields["ETag"].strip('"'),
        size=int(fields["Size"]),
        last_modified=datetime.fromisoformat(fields["LastModified"]),
        content_type=headers.get("content-type"),
        metadata={name: decode_words(text) for name, text in _own_metadata(headers).items()},
        is_described="content-type" in headers,
    )
