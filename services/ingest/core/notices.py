"""What a notification says: S3's event message, read into the facts it claims."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final, Literal, Required
from urllib.parse import unquote_plus

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from shared import field_rules
from shared.encoded_words import decode_words
from shared.errors import Rejected, require_input_bucket
from shared.events import ObjectChanged, stable_id
from shared.text import is_unsafe

Lane = Literal["live", "safe"]
State = Literal["stored", "removed"]


class _Bucket(TypedDict):
    name: str


class _Object(TypedDict, total=False):
    key: Required[str]
    size: int
    eTag: str
    contentType: str
    userMetadata: dict[str, str]
    versionId: str
    sequencer: str


class _S3(TypedDict):
    bucket: _Bucket
    object: _Object


class _Record(TypedDict):
    eventName: str
    eventTime: datetime
    s3: _S3


class Notification(TypedDict):
    """An S3 event message as MinIO and AWS write it; what Penstock does not use is left out.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """

    Records: list[_Record]


_NOTIFICATION = TypeAdapter(Notification)
_CHANGES: Mapping[str, State] = {
    "ObjectCreated": "stored",
    "ObjectRemoved": "removed",
    "LifecycleExpiration": "removed",
    "LifecycleDelMarkerExpiration": "removed",
    "LifecycleTransition": "removed",
    "ObjectTransition": "removed",
    "Replication": "removed",
}
_REMOVES: Final = frozenset({"ObjectRemoved:Delete", "LifecycleExpiration:Delete"})
"""Events after which the object, or the version that they name, is not there; all others of `removed` are hints.

MinIO sends one event (DeleteMarkerCreated) for a delete marker that was made and for one that was removed.
"""
_NOTHING_REMOVED: Final = "ObjectRemoved:NoOP"
Hint = Literal["look", "nothing removed"]


class Notice(ObjectChanged):
    """What a notification claims, in the words of the fact that it may become."""

    hint: Hint | None = Field(default=None, exclude=True)
    """Set where it only says which key may have changed; `change` is then a guess."""


def decode(body: bytes | None, lane: Lane) -> tuple[Notice, ...]:
    """Read one Kafka record of a lane; events that change no object give nothing."""
    if not body:
        raise Rejected("EMPTY_RECORD", "a record without a body is no S3 notification")
    try:
        notification = _NOTIFICATION.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Rejected("BAD_NOTIFICATION", f"not an S3 notification: {where}: {first['msg']}") from None
    if not notification["Records"]:
        raise Rejected("BAD_NOTIFICATION", "an S3 notification without records names no object")
    notices = (_notice(record, lane) for record in notification["Records"])
    return tuple(notice for notice in notices if notice is not None)


def _notice(record: _Record, lane: Lane) -> Notice | None:
    name = record["eventName"].removeprefix("s3:")
    change = _CHANGES.get(name.partition(":")[0])
    if change is None:
        return None
    hint = _hint(name) if change == "removed" else None
    described = record["s3"]["object"]
    bucket, key = record["s3"]["bucket"]["name"], unquote_plus(described["key"], errors="surrogateescape")
    version = None if hint else described.get("versionId") or None
    sequencer, at = described.get("sequencer") or None, field_rules.time(record["eventTime"])
    return Notice(
        change=change,
        bucket=bucket,
        key=key,
        version_id=None if version == "null" else version,
        etag=described.get("eTag", "").strip('"') or None if change == "stored" else None,
        size=described.get("size", 0) if change == "stored" else None,
        content_type=described.get("contentType") or None,
        metadata=user_metadata(described.get("userMetadata", {})),
        sequencer=sequencer,
        occurred_at=at,
        seen_by=lane,
        correlation_id=stable_id(bucket, key, version, sequencer or at),
        hint=hint,
    )


def _hint(name: str) -> Hint | None:
    if name == _NOTHING_REMOVED:
        return "nothing removed"
    return None if name in _REMOVES else "look"


def user_metadata(raw: Mapping[str, str]) -> dict[str, str]:
    """Return the uploader's own entries of `raw`, names in lower case and without their prefix, encoded words decoded.

    A notification has them as they came, and an answer to HEAD encoded: decoded they are one.
    """
    prefix = "x-amz-meta-"
    named = ((name.lower(), value) for name, value in raw.items())
    return {name.removeprefix(prefix): decode_words(value) for name, value in named if name.startswith(prefix)}


def refuse_unsafe(notice: ObjectChanged, inputs: Collection[str]) -> None:
    """Raise `Rejected` for foreign buckets, keys that would deceive a reader, and fields that S3 would not make so."""
    require_input_bucket(notice.bucket, inputs)
    if is_unsafe(notice.key):
        raise Rejected("KEY_UNSAFE", f"key {notice.key!a} holds control or bidirectional characters; rename the object")
    try:
        _check_fields(notice)
    except ValueError as error:
        raise Rejected("BAD_NOTIFICATION", f"not an S3 notification: {error}") from None


def _check_fields(notice: ObjectChanged) -> None:
    """Raise ValueError for what goes into requests and rows and is not as S3 makes it."""
    field_rules.key(notice.key)
    for rule, value in (
        (field_rules.token, notice.version_id),
        (field_rules.etag, notice.etag),
        (field_rules.sequencer, notice.sequencer),
        (field_rules.text, notice.content_type),
    ):
        if value is not None:
            rule(value)
    field_rules.metadata(notice.metadata)


def is_folder_marker(key: str, size: int | None) -> bool:
    """Whether this is the empty object that browsers make to show a folder."""
    return key.endswith("/") and not size
