"""An in-memory object store for tests without a server, with the results and errors of the real one."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

from awscrt.checksums import crc64nvme
from typing_extensions import Buffer

from shared.errors import Outage, Rejected
from shared.object_headers import STORED_HEADERS, precondition_headers
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, ObjectSuperseded
from shared.storage.multipart import CRC64
from shared.storage.objects import CHUNK_BYTES, DEFAULT_MAX_BYTES, PAGE_SIZE
from shared.storage.port import MultipartPort
from shared.testing.multipart import MemoryUploads


@dataclass(slots=True)
class _Version:
    info: ObjectInfo
    body: bytes
    checksums: Mapping[str, str]


_Keys = dict[str, list[_Version | None]]
"""The versions of every key, oldest first; None is a removal."""


class MemoryStore:
    """An in-memory object store; with `versioned`, overwritten versions stay readable."""

    def __init__(self, *buckets: str, versioned: bool = False) -> None:
        self.is_away = False
        """While set, every operation raises Outage."""
        self.failing_keys: set[str] = set()
        """Keys whose operations raise Outage while the store serves all others."""
        self.reads = 0
        """The number of bodies read."""
        self.uploads: MultipartPort = MemoryUploads(self, self._require_bucket)
        self._versioned = versioned
        self._numbers = count(1)
        self._buckets: dict[str, _Keys] = {name: {} for name in buckets}

    async def check(self) -> None:
        """Raise Outage if `is_away`."""
        if self.is_away:
            raise Outage("the object store is away")

    async def head(self, ref: ObjectRef) -> ObjectInfo:
        """Describe an object."""
        found = self._find(ref)
        return replace(found.info, checksums=found.checksums)

    async def read(
        self, ref: ObjectRef, *, etag: str | None = None, limit: int | None = None, end: int | None = None
    ) -> tuple[ObjectInfo, bytes]:
        """Read an object, or its first `end` bytes."""
        found = self._find(ref, etag)
        if limit is not None and found.info.size > limit:
            raise Rejected("SIZE_DIFFERS", f"{ref} has {found.info.size} bytes, not {limit} as announced")
        if end is not None and not found.body:
            raise Rejected("RANGE_PAST_END", f"{ref} is shorter than the requested range")
        self.reads += 1
        return replace(found.info, checksums=found.checksums), found.body[:end]

    @asynccontextmanager
    async def stream(
        self,
        ref: ObjectRef,
        *,
        etag: str | None = None,
        start: int = 0,
        end: int | None = None,
        chunk_size: int = CHUNK_BYTES,
    ) -> AsyncIterator[AsyncIterator[Buffer]]:
        """Read bytes `start` to `end` in chunks."""
        _, body = await self.read(ref, etag=etag)
        yield _chunks(body[start:end], chunk_size)

    async def list(
        self,
        bucket: str,
        *,
        prefix: str = "",
        start_after: str = "",
        page_size: int = PAGE_SIZE,
        described: bool = False,
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List in key order, in pages; `described` adds content type and metadata, as MinIO does."""
        current = (versions[-1] for _, versions in sorted(self._bucket(bucket).items(), key=_key_bytes) if versions)
        infos = [_listed(one.info, described=described) for one in current if one is not None]
        matching = [one for one in infos if one.ref.key.startswith(prefix) and one.ref.key > start_after]
        for start in range(0, len(matching), page_size):
            yield matching[start : start + page_size]

    async def list_versions(
        self, bucket: str, *, prefix: str = "", page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List current objects with their version ids."""
        async for page in self.list(bucket, prefix=prefix, page_size=page_size, described=True):
            yield [self._find(one.ref).info for one in page]

    async def has_versions(self, bucket: str) -> bool:
        """Return whether the store keeps versions."""
        self._bucket(bucket)
        return self._versioned

    async def put(  # noqa: PLR0913 - the properties of an object
        self,
        ref: ObjectRef,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        checksums: Iterable[str] = (),
    ) -> ObjectInfo:
        """Store an object with checksums of the algorithms `checksums`, as if its upload had brought them."""
        version = f"version-{next(self._numbers)}" if self._versioned else None
        info = ObjectInfo(
            ref=ObjectRef(ref.bucket, ref.key, version),
            etag=hashlib.md5(body, usedforsecurity=False).hexdigest(),
            size=len(body),
            last_modified=datetime.now(UTC).replace(microsecond=0),
            content_type=content_type,
            metadata={name.lower(): value for name, value in (metadata or {}).items()},
            headers=dict(headers or {}),
        )
        stored_checksums = {name: _checksum(name, body) for name in checksums}
        self._add(ref, _Version(info, body, stored_checksums))
        return info

    @asynccontextmanager
    async def write(  # noqa: PLR0913 - the properties of an object
        self,
        ref: ObjectRef,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = DEFAULT_MAX_BYTES,
        if_match: str | None = None,
        keep_checksum: bool = True,
    ) -> AsyncIterator["_MemoryWriter"]:
        """Write an object; it appears only if the block ends without an error."""
        writer = _MemoryWriter(ref, limit)
        yield writer
        self.refuse_unless(ref, precondition_headers(if_match))
        algorithms = ("crc64nvme",) if keep_checksum else ()
        writer.info = await self.put(
            ref, bytes(writer.body), metadata=metadata, content_type=content_type, headers=headers, checksums=algorithms
        )

    async def put_with_headers(self, ref: ObjectRef, body: bytes, headers: Mapping[str, str]) -> ObjectInfo:
        """Store an object with `headers`, names in lower case."""
        self.refuse_unless(ref, headers)
        prefix = "x-amz-meta-"
        metadata = {name.removeprefix(prefix): text for name, text in headers.items() if name.startswith(prefix)}
        stored_headers = {name: headers[name] for name in STORED_HEADERS if name in headers}
        algorithms = ("crc64nvme",) if CRC64 in headers or "x-amz-checksum-algorithm" in headers else ()
        return await self.put(
            ref,
            body,
            metadata=metadata,
            content_type=headers.get("content-type"),
            headers=stored_headers,
            checksums=algorithms,
        )

    def refuse_unless(self, ref: ObjectRef, headers: Mapping[str, str]) -> None:
        """Raise ObjectSuperseded if the If-Match or If-None-Match header fails."""
        versions = self._bucket(ref.bucket).get(ref.key, [])
        found = versions[-1] if versions else None
        etag = None if found is None else found.info.etag
        if_match, if_none_match = headers.get("if-match"), headers.get("if-none-match")
        is_match = if_match is None or (etag is not None and if_match in {"*", f'"{etag}"'})
        if not is_match or (if_none_match is not None and etag is not None and if_none_match in {"*", f'"{etag}"'}):
            raise ObjectSuperseded(f"{ref} was overwritten since its event")

    @asynccontextmanager
    async def begin_upload(self, ref: ObjectRef, headers: Mapping[str, str]) -> AsyncIterator[str]:
        """Begin a multipart upload; abort it if the block fails."""
        upload_id = await self.uploads.begin(ref, headers)
        try:
            yield upload_id
        except BaseException:
            await self.uploads.abort(ref, upload_id)
            raise

    async def abort_abandoned(self, in_doubt: Callable[[ObjectRef], Awaitable[object]]) -> int:  # noqa: ARG002
        """Return 0: this store aborts a failed upload at once, and no upload outlives its process."""
        return 0

    def _require_bucket(self, ref: ObjectRef) -> None:
        """Raise Outage if `is_away`, or Rejected if the bucket of `ref` does not exist."""
        self._bucket(ref.bucket)

    async def copy(self, source: ObjectRef, ref: ObjectRef) -> None:
        """Copy an object."""
        found = self._find(source)
        info = found.info
        await self.put(
            ref,
            found.body,
            metadata=info.metadata,
            content_type=info.content_type,
            headers=info.headers,
            checksums=found.checksums,
        )

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> None:  # noqa: ARG002 - as MinIO does
        """Remove an object or a version."""
        versions = self._bucket(ref.bucket).get(ref.key, [])
        if ref.version_id is None:
            self._add(ref, None)
        else:
            versions[:] = [one for one in versions if one is None or one.info.ref.version_id != ref.version_id]

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove several objects."""
        for key in keys:
            await self.delete(ObjectRef(bucket, key))

    def _add(self, ref: ObjectRef, version: _Version | None) -> None:
        versions = self._bucket(ref.bucket).setdefault(ref.key, [])
        if not self._versioned:
            versions.clear()
        versions.append(version)

    def _find(self, ref: ObjectRef, etag: str | None = None) -> _Version:
        if ref.key in self.failing_keys:
            raise Outage(f"the object store cannot read {ref}: InternalError")
        versions = self._bucket(ref.bucket).get(ref.key, [])
        matching = [one for one in versions if one is not None and one.info.ref.version_id == ref.version_id]
        found = next(iter(matching), None) if ref.version_id else next(iter(versions[-1:]), None)
        if found is None:
            raise ObjectGone(f"{ref} is gone")
        if etag is not None and found.info.etag != etag:
            raise ObjectSuperseded(f"{ref} was overwritten since its event")
        return found

    def _bucket(self, name: str) -> _Keys:
        if self.is_away:
            raise Outage("the object store is away")
        if name not in self._buckets:
            raise Rejected("NO_SUCH_BUCKET", f"there is no bucket {name}")
        return self._buckets[name]


class _MemoryWriter:
    def __init__(self, ref: ObjectRef, limit: int) -> None:
        self.info: ObjectInfo
        self.body = bytearray()
        self._ref = ref
        self._limit = limit

    @property
    def size(self) -> int:
        return len(self.body)

    async def write(self, chunk: Buffer) -> None:
        self.body += chunk
        if self.size > self._limit:
            raise Rejected("TOO_LARGE", f"{self._ref} is larger than the limit of {self._limit} bytes")


async def _chunks(body: bytes, size: int) -> AsyncIterator[Buffer]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def _checksum(name: str, body: bytes) -> str:
    if name == "crc64nvme":
        return f"{crc64nvme(body):016x}"
    return hashlib.new(name, body, usedforsecurity=False).hexdigest()


def _key_bytes(entry: tuple[str, object]) -> bytes:
    return entry[0].encode()


def _listed(info: ObjectInfo, *, described: bool) -> ObjectInfo:
    plain = replace(info, ref=replace(info.ref, version_id=None))
    return plain if described else replace(plain, content_type=None, metadata={}, is_described=False)
