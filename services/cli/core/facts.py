"""Facts on the bus: decoding, filters, and one-line summaries."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from shared.events import event_of
from shared.text import visible
from shared.topics import DEAD_LETTER_SUFFIX

_ATTRIBUTES: Final = ("ce_id", "ce_source", "ce_subject", "ce_time", "correlation_id", "traceparent")


@dataclass(frozen=True, slots=True)
class Fact:
    """One record: position, envelope and body; a body that is not a JSON object is `{"raw": text}`."""

    topic: str
    partition: int
    offset: int
    at: datetime
    key: str
    type: str
    headers: Mapping[str, str]
    data: Mapping[str, Any]

    @property
    def is_dead_letter(self) -> bool:
        """Whether this is a dead letter."""
        return self.topic.endswith(DEAD_LETTER_SUFFIX)

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        attributes = {name.removeprefix("ce_"): self.headers[name] for name in _ATTRIBUTES if name in self.headers}
        reasons = {name: text for name, text in self.headers.items() if name.startswith("dlq_")}
        position = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "at": self.at.isoformat(),
        }
        return position | {"key": self.key, "type": self.type} | attributes | reasons | {"data": dict(self.data)}


def decode(  # noqa: PLR0913 - the fields of a record
    topic: str,
    partition: int,
    offset: int,
    *,
    timestamp_ms: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
) -> Fact:
    """Decode a record of any topic; no content raises."""
    texts = {name: (text or b"").decode("utf-8", "backslashreplace") for name, text in headers}
    kind = texts.get("ce_type", topic).removeprefix("penstock.")
    at = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    name = (key or b"").decode("utf-8", "backslashreplace")
    return Fact(
        topic, partition, offset, at, name, topic if topic.endswith(DEAD_LETTER_SUFFIX) else kind, texts, _body(value)
    )


def decode_rendered(rendered: Mapping[str, Any]) -> Fact:
    """Decode a fact as the ingress renders it; its sequence number stands for the offset."""
    code, _, reason = str(rendered.get("error") or "").partition(": ")
    body, bucket = rendered.get("body"), rendered.get("bucket")
    return Fact(
        topic=str(rendered.get("topic", "")),
        partition=0,
        offset=int(rendered.get("seq", 0)),
        at=datetime.fromisoformat(str(rendered["at"])),
        key=f"{bucket}/{rendered.get('key')}" if bucket else "",
        type=str(rendered.get("type", "")),
        headers={"dlq_code": code, "dlq_reason": reason} if reason else {},
        data=body if isinstance(body, dict) else {"raw": str(body)},
    )


def _body(value: bytes | None) -> Mapping[str, Any]:
    try:
        body = json.loads(value or b"null")
    except (ValueError, RecursionError):
        body = None
    return body if isinstance(body, dict) else {"raw": (value or b"").decode("utf-8", "backslashreplace")}


@dataclass(frozen=True, slots=True)
class FactFilter:
    """The facts to show; an empty condition matches all."""

    bucket: str = ""
    prefix: str = ""
    key: str = ""
    types: tuple[str, ...] = ()

    def matches(self, fact: Fact) -> bool:
        """Whether to show `fact`; a type is given by its beginning (`objects`, `objects.hashed`)."""
        bucket, key = (str(fact.data.get(name, "")) for name in ("bucket", "key"))
        return (
            (not self.bucket or bucket == self.bucket)
            and key.startswith(self.prefix)
            and (not self.key or key == self.key)
            and (not self.types or any(fact.type.startswith(kind) for kind in self.types))
        )


@dataclass(frozen=True, slots=True)
class FactLine:
    """A fact in one line: a word with its style, the subject and the details."""

    word: str
    style: str
    subject: str
    detail: str


_STYLES: Final = {"error": "bold red", "warning": "yellow"}
_STYLES_OF_OUTCOMES: Final = {"stored": "green", "loaded": "green", "removed": "yellow", "hashed": "blue"}


def describe(fact: Fact) -> FactLine:
    """Summarize a fact in one line."""
    if fact.is_dead_letter:
        reason = f"{fact.headers.get('dlq_code', '')}: {fact.headers.get('dlq_reason', '')}"
        return FactLine("dead", "bold red", visible(fact.key or fact.topic), visible(reason, 200))
    subject = visible(fact.key)
    if event := event_of(fact.type, fact.data):
        style = _STYLES.get(event.severity) or _STYLES_OF_OUTCOMES.get(event.outcome, "cyan")
        return FactLine(event.outcome, style, subject, visible(event.detail, 200))
    return FactLine(visible(fact.type.split(".")[-2], 20) if "." in fact.type else "fact", "cyan", subject, "")
