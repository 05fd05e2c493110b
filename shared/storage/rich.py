"""Odd keys, versions, listings and checksums through aiobotocore, which knows all of S3.

Importing and opening it costs 30 to 50 MiB and half a second, for it reads the models of its service: `store`
does both when first needed, and a service that only meets plain keys never pays.
"""

import base64
import binascii
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from shared.settings import Settings
from shared.storage.failures import Failure, require_credentials
from shared.storage.objects import ObjectInfo, ObjectRef

_CONFIG: Final = AioConfig(
    # the default of 10 is a queue
    max_pool_connections=64,
    connect_timeout=5,
    read_timeout=60,
    # waiting is the retry middleware's
    retries={"total_max_attempts": 1},
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_NETWORK: Final = (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError)
_CHECKSUMS: Final = {
    "sha256": "ChecksumSHA256",
    "sha1": "ChecksumSHA1",
    "crc32": "ChecksumCRC32",
    "crc32c": "ChecksumCRC32C",
    "crc64nvme": "ChecksumCRC64NVME",
}


@asynccontextmanager
async def open_client(settings: Settings) -> AsyncIterator[Any]:
    """Give a plain aiobotocore S3 client: path style, no retries and no checksums of its own."""
    require_credentials(settings)
    async with AioSession().create_client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        region_name=settings.s3_region,
        config=_CONFIG,
    ) as client:
        yield client


@contextmanager
def sorted_errors(settings: Settings, action: str, ref: ObjectRef) -> Iterator[None]:
    """Raise what the client reports as what it means to us (`Failure.meaning`)."""
    try:
        yield
    except ParamValidationError:
        raise
    except ClientError as error:
        status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        raise Failure(action, ref, status, "" if code.isdigit() else code).meaning(settings) from error
    except _NETWORK as error:
        reason = f"connection failed ({type(error).__name__})"
        raise Failure(action, ref, None, detail=reason).meaning(settings) from error


class RichClient:
    """Everything S3 can do that obstore cannot, and every key."""

    def __init__(self, client: Any, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def head(self, ref: ObjectRef, *, checksums: bool) -> ObjectInfo:
        """Describe an object."""
        asked = {"ChecksumMode": "ENABLED"} if checksums else {}
        with self._sorted("look at", ref):
            try:
                return _info(ref, await self._client.head_object(**_name(ref), **asked))
            except ClientError:
                # an answer to HEAD has no body and so no reason; that to GET has one
                response = await self._client.get_object(**_name(ref), **asked)
                response["Body"].close()
                return _info(ref, response)

    async def read(self, ref: ObjectRef, etag: str | None) -> tuple[ObjectInfo, bytes]:
        """Read a whole object in one request."""
        with self._sorted("read", ref):
            response = await self._client.get_object(**_name(ref), **_condition(etag))
            async with response["Body"] as body:
                return _info(ref, response), await body.read()

    @asynccontextmanager
    async def stream(
        self, ref: ObjectRef, etag: str | None, start: int, end: int | None, chunk_size: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read in chunks of at most `chunk_size` bytes."""
        span = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        with self._sorted("read", ref):
            response = await self._client.get_object(**_name(ref), **_condition(etag), **span)
        async with response["Body"] as body:
            yield self._chunks(ref, body, chunk_size)

    async def list(self, bucket: str, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """List in pages of up to 1,000."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, StartAfter=start_after
        )
        with self._sorted("list", ObjectRef(bucket, prefix)):
            async for page in pages:
                yield [_listed(bucket, entry) for entry in page.get("Contents", ())]

    async def put(
        self, ref: ObjectRef, body: bytes, metadata: Mapping[str, str], content_type: str | None
    ) -> ObjectInfo:
        """Store an object in one request."""
        typed = {"ContentType": content_type} if content_type else {}
        with self._sorted("write", ref):
            stored = await self._client.put_object(
                Bucket=ref.bucket, Key=ref.key, Body=body, Metadata=dict(metadata), **typed
            )
        return ObjectInfo(
            ref=ObjectRef(ref.bucket, ref.key, stored.get("VersionId")),
            etag=stored["ETag"].strip('"'),
            size=len(body),
            last_modified=datetime.now(UTC),
            content_type=content_type,
            metadata=dict(metadata),
        )

    async def delete(self, ref: ObjectRef) -> None:
        """Remove an object or a version."""
        with self._sorted("delete", ref):
            await self._client.delete_object(**_name(ref))

    async def _chunks(self, ref: ObjectRef, body: Any, chunk_size: int) -> AsyncIterator[bytes]:
        with self._sorted("read", ref):
            while chunk := await body.read(chunk_size):
                yield chunk

    def _sorted(self, action: str, ref: ObjectRef) -> Any:
        return sorted_errors(self._settings, action, ref)


def _name(ref: ObjectRef) -> dict[str, str]:
    version = {"VersionId": ref.version_id} if ref.version_id else {}
    return {"Bucket": ref.bucket, "Key": ref.key, **version}


def _condition(etag: str | None) -> dict[str, str]:
    return {"IfMatch": f'"{etag}"'} if etag else {}


def _info(ref: ObjectRef, response: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        ref=ObjectRef(ref.bucket, ref.key, response.get("VersionId")),
        etag=response["ETag"].strip('"'),
        size=response["ContentLength"],
        last_modified=response["LastModified"].astimezone(UTC),
        content_type=response.get("ContentType"),
        metadata={name.lower(): value for name, value in response["Metadata"].items()},
        checksums=whole_checksums(response),
    )


def whole_checksums(response: Mapping[str, Any]) -> dict[str, str]:
    """Give in hex the checksums that cover the object's bytes; one over checksums of parts ends in `-N`."""
    if response.get("ChecksumType") == "COMPOSITE":
        return {}
    told = {name: response[field] for name, field in _CHECKSUMS.items() if field in response}
    return {name: binascii.hexlify(base64.b64decode(text)).decode() for name, text in told.items() if "-" not in text}


def _listed(bucket: str, entry: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        ref=ObjectRef(bucket, entry["Key"]),
        etag=entry["ETag"].strip('"'),
        size=entry["Size"],
        last_modified=entry["LastModified"].astimezone(UTC),
    )
