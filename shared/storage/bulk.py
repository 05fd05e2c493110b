"""Plain keys through obstore: a Rust client that costs a third of the CPU of a Python one.

It takes a key as a path, so keys that its path rules would alter or refuse go elsewhere (`is_plain`).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import obstore
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from shared.settings import Settings
from shared.storage.failures import Failure
from shared.storage.objects import ObjectInfo, ObjectRef

if TYPE_CHECKING:
    # stubs alone: these have no name at run time
    from obstore import BytesStream, GetOptions, GetResult
    from obstore.store import ClientConfig

_NOT_PLAIN: Final = re.compile(r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]")
_STATUS_OF: Final[Mapping[type[Exception], int]] = {
    FileNotFoundError: 404,
    PreconditionError: 412,
    PermissionDeniedError: 403,
    UnauthenticatedError: 401,
}
_ERRORS: Final = (BaseError, FileNotFoundError)
_ANSWER: Final = re.compile(r"Error performing [A-Z]+ http\S+ in \S+ - Server returned non-2xx status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_STANDARD: Final = frozenset(
    {
        "Content-Type",
        "Content-Encoding",
        "Content-Language",
        "Content-Disposition",
        "Cache-Control",
        "Storage-Class",
    }
)
_SETTLE_SECONDS: Final = 0.1
_TIMEOUTS: "Final[ClientConfig]" = {
    "connect_timeout": timedelta(seconds=5),
    # between two reads: a stalled body ends, a large one does not
    "read_timeout": timedelta(seconds=60),
    # of the whole request, body included, 30 s if left out
    "timeout": timedelta(days=7),
}


def is_plain(key: str) -> bool:
    """Tell whether obstore sends this key as it is.

    object_store's `Path::parse` drops a leading and a trailing `/`, and refuses empty, `.` and `..` segments
    and ASCII control characters.
    """
    return _NOT_PLAIN.search(key) is None


class BulkClient:
    """What a store does often: describe, read, write and remove objects with plain keys."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._buckets: dict[str, S3Store] = {}

    async def close(self) -> None:
        """Let obstore's threads go before the process may end.

        A thread that still holds a finished request's result when the interpreter stops aborts the process, after one
        short run in three (PyO3/pyo3-async-runtimes issue 40). There is nothing to wait for but time.
        """
        if self._buckets:
            await asyncio.sleep(_SETTLE_SECONDS)

    async def head(self, ref: ObjectRef) -> ObjectInfo:
        """Describe an object."""
        with self._sorted("look at", ref):
            try:
                result = await self._get(ref, head=True)
            except _ERRORS as error:
                if _ANSWER.search(str(error)) is None:
                    raise
                # an answer to HEAD has no body and so no reason; that to GET has one
                result = await self._get(ref)
            return _info(ref, result)

    async def read(self, ref: ObjectRef, etag: str | None) -> tuple[ObjectInfo, bytes]:
        """Read a whole object in one request."""
        with self._sorted("read", ref):
            result = await self._get(ref, if_match=etag)
            return _info(ref, result), bytes(await result.bytes_async())

    @asynccontextmanager
    async def stream(
        self, ref: ObjectRef, etag: str | None, start: int, end: int | None, chunk_size: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read in chunks of at least `chunk_size` bytes, the last one excepted."""
        span = None if not start and end is None else {"offset": start} if end is None else (start, end)
        with self._sorted("read", ref):
            result = await self._get(ref, if_match=etag, range=span)
        yield self._chunks(ref, result.stream(min_chunk_size=chunk_size))

    async def put(
        self, ref: ObjectRef, body: bytes, metadata: Mapping[str, str], content_type: str | None
    ) -> ObjectInfo:
        """Store an object in one request."""
        attributes = dict(metadata) | ({"Content-Type": content_type} if content_type else {})
        with self._sorted("write", ref):
            stored = await obstore.put_async(
                self._bucket(ref.bucket), ref.key, body, attributes=attributes, use_multipart=False
            )
        return ObjectInfo(
            ref=ObjectRef(ref.bucket, ref.key, stored["version"]),
            etag=(stored["e_tag"] or "").strip('"'),
            size=len(body),
            last_modified=datetime.now(UTC),
            content_type=content_type,
            metadata=dict(metadata),
        )

    async def delete(self, ref: ObjectRef) -> None:
        """Remove the current object."""
        with self._sorted("delete", ref):
            await obstore.delete_async(self._bucket(ref.bucket), ref.key)

    async def _get(self, ref: ObjectRef, **options: Any) -> "GetResult":
        asked = {name: value for name, value in options.items() if value is not None}
        version = {"version": ref.version_id} if ref.version_id else {}
        return await obstore.get_async(self._bucket(ref.bucket), ref.key, options=cast("GetOptions", asked | version))

    async def _chunks(self, ref: ObjectRef, stream: "BytesStream") -> AsyncIterator[bytes]:
        with self._sorted("read", ref):
            async for chunk in stream:
                yield chunk

    def _bucket(self, name: str) -> S3Store:
        if name not in self._buckets:
            settings = self._settings
            self._buckets[name] = S3Store(
                name,
                endpoint=settings.s3_endpoint,
                access_key_id=settings.s3_access_key,
                secret_access_key=settings.s3_secret_key.get_secret_value(),
                region=settings.s3_region,
                disable_bulk_delete=True,
                client_options={"allow_http": settings.s3_endpoint.startswith("http://"), **_TIMEOUTS},
                # waiting is the retry middleware's
                retry_config={"max_retries": 0},
            )
        return self._buckets[name]

    @contextmanager
    def _sorted(self, action: str, ref: ObjectRef) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            if (failure := _failure(action, ref, error)) is None:
                raise
            raise failure.meaning(self._settings) from error


def _failure(action: str, ref: ObjectRef, error: Exception) -> Failure | None:
    """Read status and code out of the text, its only place; None when no request failed."""
    # the key stands unescaped at the front of some texts, and it is anyone's to choose
    text = str(error).replace(ref.key, "", 1)
    if (answer := _ANSWER.search(text)) is not None:
        code = _CODE.search(text, answer.end())
        return Failure(action, ref, int(answer[1]), code[1] if code else "")
    if (status := _STATUS_OF.get(type(error))) is not None:
        return Failure(action, ref, status)
    if "HTTP error: " in text.partition("\n")[0]:
        kind = re.search(r"kind: (\w+)", text)
        return Failure(action, ref, None, detail=f"connection failed ({kind[1] if kind else 'unknown'})")
    return None


def _info(ref: ObjectRef, result: "GetResult") -> ObjectInfo:
    meta, attributes = result.meta, result.attributes
    return ObjectInfo(
        ref=ObjectRef(ref.bucket, ref.key, meta["version"]),
        etag=(meta["e_tag"] or "").strip('"'),
        size=meta["size"],
        last_modified=meta["last_modified"],
        content_type=attributes.get("Content-Type"),
        metadata={name: value for name, value in attributes.items() if name not in _STANDARD},
    )
