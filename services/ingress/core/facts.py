"""Decode records from the bus into facts of the timeline; undecodable bytes give a reason."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from services.ingress.core.sanitize import MAX_BODY_BYTES, sanitize_json, sanitize_text, truncate_body
from shared.events import stable_id
from shared.topics import DEAD_LETTER_SUFFIX

TYPE_PREFIX: Final = "penstock."
DEAD_LETTERED: Final = "dead-letters.buried.v1"
"""Type of a fact that no service publishes: a record was dead-lettered."""
MAX_NAME: Final = 200
MAX_KEY_CHARS: Final = 4096
MAX_ERROR: Final = 1000


class Record(Protocol):
    """A record as a consumer hands it out."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that has happened; `at` is UTC, `bucket` and `key` name the object it is about, if it is about one."""

    topic: str
    partition: int
    offset: int
    event_id: str
    type: str
    at: datetime
    service: str = ""
    bucket: str | None = None
    key: str | None = None
    correlation_id: str = ""
    error: str | None = None
    body: Any = None
    seq: int = 0

    @property
    def resolved_dead_letter(self) -> tuple[str, str] | None:
        """The dead letter that this fact resolves, as topic and event id."""
        body = self.body if self.type.startswith("dead-letters.settled.") and isinstance(self.body, dict) else {}
        known = isinstance(body.get("dlq_topic"), str) and "partition" in body and "offset" in body
        return (body["dlq_topic"], position_id(body["partition"], body["offset"])) if known else None


class UndecodableRecord(Exception):  # noqa: N818 - a state of the record
    """A record cannot be shown; the text is the reason, one word for a metric label."""


def decode_fact(record: Record) -> Fact:
    """Decode a record into a fact.

    Raises UndecodableRecord: `empty` or `not_json`; the service that needs such a record dead-letters it.
    """
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None}
    is_dead_letter = record.topic.endswith(DEAD_LETTER_SUFFIX)
    body, is_json = _body(record.value)
    if not is_dead_letter and not is_json:
        raise UndecodableRecord("not_json" if record.value else "empty")
    bucket, key = _object_in_body(body) or (_object_in_key(record.key) if is_dead_letter else None) or (None, None)
    return Fact(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        event_id=position_id(record.partition, record.offset) if is_dead_letter else _event_id(record, headers),
        type=DEAD_LETTERED if is_dead_letter else _type(record.topic, headers),
        at=_time(headers.get("dlq_at" if is_dead_letter else "ce_time", ""), record.timestamp),
        service=_service(headers, is_dead_letter=is_dead_letter),
        bucket=bucket,
        key=key,
        correlation_id=_correlation(headers, body),
        error=_error(headers) if is_dead_letter else None,
        body=truncate_body(body, len(record.value or b"")),
    )


def position_id(partition: object, offset: object) -> str:
    """Return the record's partition and offset as an id, for records without an event id."""
    return sanitize_text(f"{partition}/{offset}", MAX_NAME)


def _body(value: bytes | None) -> tuple[Any, bool]:
    """Return a body as plain JSON, or as text where it is none."""
    if not value:
        return None, False
    try:
        return sanitize_json(json.loads(value)), True
    except (ValueError, RecursionError):
        return {"text": sanitize_text(value[:MAX_BODY_BYTES].decode("utf-8", "replace")), "bytes": len(value)}, False


def _object_in_body(body: Any) -> tuple[str, str] | None:
    found = (body.get("bucket"), body.get("key")) if isinstance(body, dict) else (None, None)
    bucket, key = (one[:MAX_KEY_CHARS] if isinstance(one, str) else None for one in found)
    return (bucket, key) if bucket and key else None


def _object_in_key(key: bytes | None) -> tuple[str, str] | None:
    """Parse bucket and key from the record key of a notification or of an object's event."""
    bucket, _, rest = sanitize_text((key or b"").decode("utf-8", "replace"), MAX_KEY_CHARS).partition("/")
    return (bucket, rest) if bucket and rest else None


def _event_id(record: Record, headers: Mapping[str, str]) -> str:
    given = headers.get("ce_id", "")
    if not given:
        return position_id(record.partition, record.offset)
    return sanitize_text(given) if len(given) <= MAX_NAME else stable_id(given)


def _type(topic: str, headers: Mapping[str, str]) -> str:
    return sanitize_text(headers.get("ce_type") or topic, MAX_NAME).removeprefix(TYPE_PREFIX)


def _service(headers: Mapping[str, str], *, is_dead_letter: bool) -> str:
    text = headers.get("dlq_service" if is_dead_letter else "ce_source", "")
    return sanitize_text(text, MAX_NAME).removeprefix("/penstock/")


def _correlation(headers: Mapping[str, str], body: Any) -> str:
    in_body = body.get("correlation_id") if isinstance(body, dict) else None
    text = headers.get("correlation_id") or (in_body if isinstance(in_body, str) else "")
    return sanitize_text(text, MAX_NAME)


def _error(headers: Mapping[str, str]) -> str:
    code, reason = headers.get("dlq_code", ""), headers.get("dlq_reason", "")
    return sanitize_text(f"{code}: {reason}" if code else reason, MAX_ERROR)


def _time(text: str, timestamp_ms: int) -> datetime:
    """Return the event's own time, else the record's timestamp."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromtimestamp(max(0, timestamp_ms) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
