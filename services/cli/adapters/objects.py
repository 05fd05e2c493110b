"""Single objects: what the bucket itself says."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from services.cli.adapters.s3 import name_of, open_s3
from services.cli.adapters.trouble import within
from services.cli.core.address import Address
from services.cli.settings import CliSettings

SECONDS = 10.0
_ABSENT = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchVersion"}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as its bucket has it now; `size` in bytes."""

    etag: str
    size: int


async def head(client: Any, address: Address) -> Stored | None:
    """Return the stored object, or None when it is not there."""
    try:
        found = await client.head_object(Bucket=address.bucket, Key=address.key)
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise
    return Stored(found["ETag"].strip('"'), found["ContentLength"])


async def look(settings: CliSettings, address: Address) -> Stored | None:
    """Return the stored object, or None when it is not there.

    Raises:
        Outage: no answer in time.

    """
    async with within(SECONDS, name_of(settings)), open_s3(settings) as client:
        return await head(client, address)
