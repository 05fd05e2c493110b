"""Multipart uploads of the in-memory store, with the results and errors of the real one."""

import hashlib
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from itertools import count

from shared.errors import Rejected
from shared.storage import ObjectGone, ObjectInfo, ObjectRef, Part
from shared.storage.multipart import MIN_PART_BYTES
from shared.storage.port import ObjectStore


class MemoryUploads:
    """The multipart uploads of one store."""

    def __init__(self, store: ObjectStore, require_bucket: Callable[[ObjectRef], None]) -> None:
        self._store = store
        self._require_bucket = require_bucket
        self._numbers = count(1)
        self._open: dict[tuple[str, str, str], tuple[Mapping[str, str], dict[int, tuple[Part, bytes]]]] = {}

    @property
    def is_open(self) -> bool:
        """Whether any upload is neither completed nor aborted."""
        return bool(self._open)

    async def begin(self, ref: ObjectRef, headers: Mapping[str, str]) -> str:
        """Begin an upload."""
        self._require_bucket(ref)
        upload_id = f"upload-{next(self._numbers)}"
        self._open[ref.bucket, ref.key, upload_id] = dict(headers), {}
        return upload_id

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
        """Store one part, replacing an earlier one of this number."""
        _, parts = self._find(ref, upload_id)
        whole = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        part = Part(number, hashlib.md5(whole, usedforsecurity=False).hexdigest(), size, checksum)
        parts[number] = part, whole
        return part

    async def parts(self, ref: ObjectRef, upload_id: str) -> list[Part]:
        """Return the parts by number."""
        return [part for _, (part, _) in sorted(self._find(ref, upload_id)[1].items())]

    async def complete(
        self,
        ref: ObjectRef,
        upload_id: str,
        parts: Sequence[Part],
        *,
        headers: Mapping[str, str] | None = None,
        begun_with: Mapping[str, str] | None = None,  # noqa: ARG002 - `begin` has stored them
    ) -> ObjectInfo:
        """Create the object; all parts but the last must have the minimum size."""
        headers_at_begin, sent = self._find(ref, upload_id)
        if any(one.size < MIN_PART_BYTES for one in parts[:-1]):
            raise Rejected("S3_REFUSED", f"the object store refuses to write {ref}: EntityTooSmall")
        body = b"".join(sent[one.number][1] for one in parts)
        info = await self._store.put_with_headers(ref, body, {**headers_at_begin, **(headers or {})})
        del self._open[ref.bucket, ref.key, upload_id]
        return info

    async def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Remove an upload; a missing one is not an error."""
        self._require_bucket(ref)
        self._open.pop((ref.bucket, ref.key, upload_id), None)

    def _find(self, ref: ObjectRef, upload_id: str) -> tuple[Mapping[str, str], dict[int, tuple[Part, bytes]]]:
        self._require_bucket(ref)
        found = self._open.get((ref.bucket, ref.key, upload_id))
        if found is None:
            raise ObjectGone(f"the upload of {ref} is gone")
        return found
