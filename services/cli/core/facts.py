"""Facts on the bus: decoding, filters, and one-line summaries."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from services.cli.core.text import human_bytes, plural
from shared.text import visible

DLQ_SUFFIX: Final = ".dlq"
COMPLETED: Final = {
    "sweeps.completed.v1": ("swept", ("listed", "missed", "vanished")),
    "etl.completed.v1": ("compared", ("listed", "changed", "removed", "rows", "rejected")),
}
"""Facts that complete a load or a sweep: the word to show, and the counts."""
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
        return self.topic.endswith(DLQ_SUFFIX)

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
    return Fact(topic, partition, offset, at, name, topic if topic.endswith(DLQ_SUFFIX) else kind, texts, _body(value))


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


def describe(fact: Fact) -> FactLine:
    """Summarize a fact in one line."""
    if fact.is_dead_letter:
        reason = f"{fact.headers.get('dlq_code', '')}: {fact.headers.get('dlq_reason', '')}"
        return FactLine("dead", "bold red", visible(fact.key or fact.topic), visible(reason, 200))
    subject = visible(fact.key)
    match fact.type:
        case "objects.changed.v1":
            return _changed(fact.data, subject)
        case "objects.hashed.v1":
            return _hashed(fact.data, subject)
        case "etl.loaded.v1":
            return _loaded(fact.data, subject)
        case completed if completed in COMPLETED:
            return _completed(fact.data, subject, *COMPLETED[completed])
        case _:
            return FactLine(fact.type.split(".")[-2] if "." in fact.type else "fact", "cyan", subject, "")


def _completed(data: Mapping[str, Any], subject: str, word: str, names: Iterable[str]) -> FactLine:
    if error := data.get("error"):
        return FactLine("failed", "bold red", subject, visible(str(error), 200))
    return FactLine(word, "cyan", subject, visible(", ".join(f"{name} {data.get(name)}" for name in names)))


def _changed(data: Mapping[str, Any], subject: str) -> FactLine:
    if data.get("change") == "removed":
        return FactLine("removed", "yellow", subject, "")
    seen = f"{_size(data)} by {data.get('seen_by')}" if data.get("seen_by") == "sweep" else _size(data)
    return FactLine("stored", "green", subject, visible(seen))


def _hashed(data: Mapping[str, Any], subject: str) -> FactLine:
    digests = data.get("digests")
    shown = "  ".join(f"{name} {str(text)[:12]}" for name, text in digests.items()) if isinstance(digests, dict) else ""
    verification = data.get("verification")
    style = "bold red" if verification == "mismatch" else "blue"
    return FactLine("hashed", style, subject, visible("  ".join(part for part in (shown, verification) if part)))


def _loaded(data: Mapping[str, Any], subject: str) -> FactLine:
    """Summarize how a file or an image was loaded into its dataset's table."""
    if error := data.get("error"):
        return FactLine("failed", "bold red", subject, visible(str(error), 200))
    rows, rejected, reason = (data.get(name) for name in ("rows", "rejected", "reason"))
    parts = [f"{data.get('kind')} of {data.get('dataset')} {data.get('change')}"]
    parts += [plural(rows, "row")] if isinstance(rows, int) and rows else []
    parts += [f"{rejected} rejected"] if rejected else []
    parts += [str(reason)] if reason else []
    return FactLine("loaded", "yellow" if rejected or reason else "green", subject, visible(", ".join(parts)))


def _size(data: Mapping[str, Any]) -> str:
    size = data.get("size")
    return human_bytes(size) if isinstance(size, int) else ""
