"""Dead letters: their headers, their causes, and the record that a replay publishes."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from services.cli.core.usage import UsageError
from shared.errors import Rejected
from shared.text import visible

BODY_LIMIT: Final = 4096
_OVERHEAD_BYTES: Final = 1024
"""Memory of a dead letter beside its key, body and headers."""
_VARYING: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\b[0-9a-f]{8,}\b|\d+")
"""Quoted names, paths, hex ids and numbers: what differs between dead letters of one cause."""


@dataclass(frozen=True, slots=True, order=True)
class RecordPosition:
    """Topic, partition and offset of a dead letter; its id, and the key of the fact that resolves it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @staticmethod
    def parse(text: str) -> "RecordPosition":
        """Read `topic/partition/offset`.

        Raises:
            UsageError: `text` has another form.

        """
        found = re.fullmatch(r"([\w.-]+\.dlq)/(\d+)/(\d+)", text, re.ASCII)
        if found is None:
            reason = f"{visible(text, 80)!r} is not the id of a dead letter: write topic/partition/offset"
            raise UsageError(reason)
        return RecordPosition(found[1], int(found[2]), int(found[3]))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The key, body and headers of the original record; the headers `dlq_*` say why it was dead-lettered."""

    position: RecordPosition
    key: bytes | None
    body: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str:
        """Return the text of header `dlq_<name>`, empty without one."""
        return dict(self.headers).get(f"dlq_{name}", b"").decode("utf-8", "backslashreplace")

    @property
    def attempts(self) -> int:
        """How often the record was dead-lettered."""
        text = self.header("attempts")
        return int(text) if text.isdecimal() else 1

    @property
    def size(self) -> int:
        """Memory in bytes, about."""
        texts = [self.key or b"", self.body or b"", *(value for _, value in self.headers)]
        return _OVERHEAD_BYTES + sum(map(len, texts))

    @property
    def cause(self) -> tuple[str, str, str]:
        """Service, code and reason; names and numbers are cut from the reason, so that one cause is one group."""
        return self.header("service"), self.header("code"), _VARYING.sub("…", self.header("reason"))

    def document(self) -> dict[str, Any]:
        """Return the JSON document without the body; `letter` is the former name of `id`."""
        origin = {f"origin_{name}": self.header(name) for name in ("topic", "partition", "offset")}
        causes = {name: self.header(name) for name in ("service", "kind", "code", "reason", "at")}
        position = str(self.position)
        ids = {"id": position, "letter": position}
        return ids | {"key": _text(self.key), "attempts": self.attempts} | origin | causes


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters that a command is for: one by its position, or all that match every condition given."""

    position: RecordPosition | None = None
    code: str = ""
    service: str = ""
    reason: str = ""
    everything: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether no condition was given, which does not mean everything."""
        return not (self.position or self.code or self.service or self.reason or self.everything)

    def matches(self, dead_letter: DeadLetter) -> bool:
        """Whether `dead_letter` is selected."""
        return (
            (self.position is None or dead_letter.position == self.position)
            and (not self.code or dead_letter.header("code") == self.code)
            and (not self.service or dead_letter.header("service") == self.service)
            and self.reason in dead_letter.header("reason")
        )


def group_by_cause(dead_letters: Iterable[DeadLetter]) -> list[dict[str, Any]]:
    """Group by cause, the largest group first; each has the full reason of its newest dead letter."""
    groups: dict[tuple[str, str, str], list[DeadLetter]] = defaultdict(list)
    for one in dead_letters:
        groups[one.cause].append(one)
    return [_summary(group) for group in sorted(groups.values(), key=len, reverse=True)]


def _summary(group: list[DeadLetter]) -> dict[str, Any]:
    newest = max(group, key=lambda one: (one.header("at"), one.position))
    cause = {name: newest.header(name) for name in ("service", "kind", "code", "reason")}
    return cause | {
        "count": len(group),
        "attempts": max(one.attempts for one in group),
        "oldest": min(one.header("at") for one in group),
        "newest": newest.header("at"),
        "example": str(newest.position),
    }


def replay_target(dead_letter: DeadLetter) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the topic and the headers to replay a record with: only the service that failed handles it.

    Raises:
        Rejected: NO_ORIGIN if the headers do not name topic and service.

    """
    origin, service = dead_letter.header("topic"), dead_letter.header("service")
    if not origin or not service:
        raise Rejected(
            "NO_ORIGIN",
            f"{dead_letter.position} does not name the topic and service it came from: use `penstock dlq discard`",
        )
    own = [(name, value) for name, value in dead_letter.headers if not name.startswith("dlq_")]
    return origin, [*own, ("dlq_attempts", str(dead_letter.attempts).encode()), ("dlq_only", service.encode())]


def split_by_attempts(
    dead_letters: Iterable[DeadLetter], max_attempts: int, *, force: bool
) -> tuple[list[DeadLetter], list[DeadLetter]]:
    """Return those to replay, and those held back because they failed `max_attempts` times already."""
    to_replay: list[DeadLetter] = []
    held: list[DeadLetter] = []
    for one in dead_letters:
        (to_replay if force or one.attempts < max_attempts else held).append(one)
    return to_replay, held


def format_body(body: bytes | None, limit: int = BODY_LIMIT) -> str:
    """Return a body that is safe for a terminal: JSON indented, anything else escaped, cut at `limit` bytes."""
    if body is None:
        return "(no body)"
    if not body:
        return "(empty)"
    text = _indented(body) if len(body) <= limit else None
    shown = text if text is not None else _text(body[:limit])
    lines = "\n".join(visible(line) for line in shown.split("\n"))
    return lines if len(body) <= limit else f"{lines}\n… {len(body) - limit:,} more bytes"


def _indented(body: bytes) -> str | None:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "backslashreplace")


def full_document(dead_letter: DeadLetter) -> dict[str, Any]:
    """Return the JSON document with headers and body."""
    return dead_letter.document() | {
        "headers": {name: _text(value) for name, value in dead_letter.headers},
        "body": None if dead_letter.body is None else _text(dead_letter.body),
    }
