"""Validators of event fields; a record that breaks a rule becomes a dead letter.

Any Kafka client may write a record, and its fields go into S3 requests, headers, rows and logs. So decoding rejects an
invalid record before any request uses its fields. Everything that S3 accepts is valid: keys of 1,024 bytes, any
content type and metadata.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import AfterValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from shared.text import is_unsafe, quoted, why_unsafe

T = TypeVar("T")
DECODING: Final = {"decoding": True}
"""The validation context that enables the rules; events that a service creates itself are not checked."""
MAX_KEY_BYTES: Final = 1024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
MAX_TOKEN: Final = 1024
MAX_ETAG: Final = 256
MAX_NAME: Final = 200
MAX_CORRELATION: Final = 128
MAX_TEXT: Final = 8 << 10
"""Characters; the limit of HTTP servers for one header."""
MAX_METADATA: Final = 64 << 10
"""Characters of all names and values together; S3 takes 2 KiB."""
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
"""Includes the names that S3 allowed before 2018; the settings say which buckets are inputs.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
"""
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_SEQUENCER: Final = re.compile(r"[0-9A-Fa-f]{1,64}")
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")


def on_decode(rule: Callable[[T], T]) -> Any:
    """Return a validator that applies `rule` only while a record is decoded."""

    def check(value: T, info: ValidationInfo) -> T:
        return rule(value) if info.context is DECODING else value

    return AfterValidator(check)


def is_bucket(name: str) -> bool:
    """Return whether `name` is a valid bucket name; such a name needs no escaping in a URL."""
    return _BUCKET.fullmatch(name) is not None


def bucket(name: str) -> str:
    """Return a valid bucket name."""
    if not is_bucket(name):
        raise _error("BAD_BUCKET", f"{quoted(name)} is not a bucket name: use letters, digits, '.', '-' and '_'")
    return name


def key(name: str) -> str:
    """Return a key of 1 to 1,024 bytes without control or bidirectional characters."""
    if reason := why_unsafe(name):
        raise _error("KEY_UNSAFE", reason)
    if not name or len(name.encode()) > MAX_KEY_BYTES:
        raise _error("BAD_KEY", f"key {quoted(name)} has {len(name.encode())} bytes: use 1 to {MAX_KEY_BYTES}")
    return name


def token(text: str) -> str:
    """Return an opaque identifier from the store, such as a version id: visible ASCII."""
    return _visible(text, MAX_TOKEN)


def etag(text: str) -> str:
    """Return an etag without quotes; requests send it in a header."""
    if '"' in text:
        raise ValueError(f"etag {quoted(text)} holds a quote: leave it out")
    return _visible(text, MAX_ETAG)


def correlation(text: str) -> str:
    """Return a correlation id, which may be empty; it goes into headers and logs."""
    return _visible(text, MAX_CORRELATION) if text else text


def sequencer(text: str) -> str:
    """Return a sequencer: up to 64 hex digits."""
    if _SEQUENCER.fullmatch(text) is None:
        raise ValueError(f"sequencer {quoted(text)} is not 1 to 64 hex digits")
    return text


def name(text: str) -> str:
    """Return the name of a sweep, load, dataset or algorithm: one line of text."""
    if not text or len(text) > MAX_NAME or is_unsafe(text):
        raise ValueError(f"{quoted(text)} is not 1 to {MAX_NAME} characters without control characters")
    return text


def prefix(text: str) -> str:
    """Return a key prefix: empty, or valid as a key."""
    return key(text) if text else text


def text(value: str) -> str:
    """Return a header's value without NUL and lone surrogates, which Postgres cannot store."""
    if len(value) > MAX_TEXT or _NO_TEXT.search(value):
        raise ValueError(f"{quoted(value)} is not up to {MAX_TEXT} characters without NUL")
    return value


def metadata(entries: dict[str, str]) -> dict[str, str]:
    """Return user metadata of bounded size without NUL and lone surrogates, which Postgres cannot store."""
    if sum(map(len, entries)) + sum(map(len, entries.values())) > MAX_METADATA:
        raise ValueError(f"metadata of more than {MAX_METADATA} characters: S3 takes 2 KiB")
    if any(_NO_TEXT.search(part) for entry in entries.items() for part in entry):
        raise ValueError("metadata holds NUL: leave it out")
    return entries


def time(moment: datetime) -> datetime:
    """Convert a time to UTC; a time without a zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is out of range in UTC") from None


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return `names` without duplicates, in order."""
    return tuple(dict.fromkeys(names))


def _visible(word: str, limit: int) -> str:
    if len(word) > limit or _VISIBLE.fullmatch(word) is None:
        raise ValueError(f"{quoted(word)} is not 1 to {limit} visible ASCII characters")
    return word


def _error(code: str, reason: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{reason}", {"reason": reason})
