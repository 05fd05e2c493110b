"""HEAD requests for single objects."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from services.cli.adapters.errors import within
from services.cli.adapters.s3 import name_of, open_s3
from services.cli.core.address import Address
from services.cli.settings import CliSettings

SECONDS = 10.0
_ABSENT = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchVersion"}


@dataclass(frozen=True, slots=True)
class StoredObject:
    """ETag and size in bytes of an object in its bucket."""

    etag: str
    size: int


async def head(client: Any, address: Address) -> StoredObject | None:
    """Return the stored object; None if it does not exist."""
    try:
        found = await client.head_object(Bucket=address.bucket, Key=address.key)
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise
    return StoredObject(found["ETag"].strip('"'), found["ContentLength"])


async def find_object(settings: CliSettings, address: Address) -> StoredObject | None:
    """Return the stored object; None if it does not exist.

    Raises:
        Outage: no answer within `SECONDS`.

    """
    async with within(SECONDS, name_of(settings)), open_s3(settings) as client:
        return await head(client, address)
