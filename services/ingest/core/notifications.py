"""Parse S3 event messages into the object changes that they announce."""

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
from shared.text import require_safe_key

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
    """An S3 event message as MinIO and AWS write it, with the fields that Penstock uses.

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
"""Events that remove the object or the version they name; all others of `removed` are hints.

MinIO sends DeleteMarkerCreated both when a delete marker is created and when one is removed.
"""
_NOTHING_REMOVED: Final = "ObjectRemoved:NoOP"
Hint = Literal["inspect", "nothing removed"]


class ObjectNotification(ObjectChanged):
    """One announced object change, not yet confirmed by the bucket."""

    hint: Hint | None = Field(default=None, exclude=True)
    """Set when the event names only a key that may have changed; `change` is then a guess."""


def decode(body: bytes | None, lane: Lane) -> tuple[ObjectNotification, ...]:
    """Parse one Kafka record of a lane; skip events that change no object. Raises Rejected for a malformed record."""
    if not body:
        raise Rejected("EMPTY_RECORD", "record has no body: S3 notifications are never empty")
    try:
        message = _NOTIFICATION.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Rejected("BAD_NOTIFICATION", f"not an S3 notification: {where}: {first['msg']}") from None
    if not message["Records"]:
        raise Rejected("BAD_NOTIFICATION", "S3 notification has no records: it names no object")
    notifications = (_to_notification(record, lane) for record in message["Records"])
    return tuple(notification for notification in notifications if notification is not None)


def _to_notification(record: _Record, lane: Lane) -> ObjectNotification | None:
    name = record["eventName"].removeprefix("s3:")
    change = _CHANGES.get(name.partition(":")[0])
    if change is None:
        return None
    hint = _hint(name) if change == "removed" else None
    s3_object = record["s3"]["object"]
    bucket, key = record["s3"]["bucket"]["name"], unquote_plus(s3_object["key"], errors="surrogateescape")
    version = None if hint else s3_object.get("versionId") or None
    sequencer, at = s3_object.get("sequencer") or None, field_rules.time(record["eventTime"])
    return ObjectNotification(
        change=change,
        bucket=bucket,
        key=key,
        version_id=None if version == "null" else version,
        etag=s3_object.get("eTag", "").strip('"') or None if change == "stored" else None,
        size=s3_object.get("size", 0) if change == "stored" else None,
        content_type=s3_object.get("contentType") or None,
        metadata=user_metadata(s3_object.get("userMetadata", {})),
        sequencer=sequencer,
        occurred_at=at,
        seen_by=lane,
        correlation_id=stable_id(bucket, key, version, sequencer or at),
        hint=hint,
    )


def _hint(name: str) -> Hint | None:
    if name == _NOTHING_REMOVED:
        return "nothing removed"
    return None if name in _REMOVES else "inspect"


def user_metadata(raw: Mapping[str, str]) -> dict[str, str]:
    """Return the uploader's entries of `raw`: names in lower case without their prefix, encoded words decoded.

    Notifications carry the values unencoded and HEAD responses encoded; decoding makes them equal.
    """
    prefix = "x-amz-meta-"
    named = ((name.lower(), value) for name, value in raw.items())
    return {name.removeprefix(prefix): decode_words(value) for name, value in named if name.startswith(prefix)}


def reject_unsafe(notification: ObjectChanged, inputs: Collection[str]) -> None:
    """Raise `Rejected` for foreign buckets, deceptive keys, and fields that S3 would not write."""
    require_input_bucket(notification.bucket, inputs)
    require_safe_key(notification.key)
    try:
        _check_fields(notification)
    except ValueError as error:
        raise Rejected("BAD_NOTIFICATION", f"not an S3 notification: {error}") from None


def _check_fields(notification: ObjectChanged) -> None:
    """Raise ValueError for a malformed field that would go into requests or rows."""
    field_rules.key(notification.key)
    for rule, value in (
        (field_rules.token, notification.version_id),
        (field_rules.etag, notification.etag),
        (field_rules.sequencer, notification.sequencer),
        (field_rules.text, notification.content_type),
    ):
        if value is not None:
            rule(value)
    field_rules.metadata(notification.metadata)


def is_folder_marker(key: str, size: int | None) -> bool:
    """Whether this is the empty object that S3 browsers create to show a folder."""
    return key.endswith("/") and not size
