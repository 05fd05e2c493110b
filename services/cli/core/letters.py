"""Dead letters: what they say about themselves, which belong together, and how one goes back."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.cli.core.usage import WrongUsage
from shared.errors import Rejected
from shared.text import visible

BODY_LIMIT: Final = 4096
LETTER_BYTES: Final = 1024
"""What a letter takes beside its texts."""
_PARTICULARS: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\b[0-9a-f]{8,}\b|\d+")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a dead letter stands; its name, and the key of the fact that settles it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @staticmethod
    def parse(text: str) -> "Place":
        """Read `topic/partition/offset`.

        Raises:
            WrongUsage: it is not that.

        """
        found = re.fullmatch(r"([\w.-]+\.dlq)/(\d+)/(\d+)", text, re.ASCII)
        if found is None:
            reason = f"{visible(text, 80)!r} is no dead letter; write topic/partition/offset"
            raise WrongUsage(reason)
        return Place(found[1], int(found[2]), int(found[3]))


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: the record's own key, body and headers, and why it is here (headers `dlq_*`)."""

    place: Place
    key: bytes | None
    body: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def told(self, name: str) -> str:
        """Return what header `dlq_<name>` says, or nothing."""
        return dict(self.headers).get(f"dlq_{name}", b"").decode("utf-8", "backslashreplace")

    @property
    def attempts(self) -> int:
        """How often this record has been a dead letter."""
        text = self.told("attempts")
        return int(text) if text.isdecimal() else 1

    @property
    def size(self) -> int:
        """How many bytes of memory it takes, about."""
        texts = [self.key or b"", self.body or b"", *(value for _, value in self.headers)]
        return LETTER_BYTES + sum(map(len, texts))

    @property
    def cause(self) -> tuple[str, str, str]:
        """Service, code and reason; the reason without names and figures, so that one cause is one group."""
        return self.told("service"), self.told("code"), _PARTICULARS.sub("…", self.told("reason"))

    def document(self) -> dict[str, Any]:
        """Return it for a program, without its body."""
        names = ("topic", "partition", "offset", "service", "kind", "code", "reason", "at")
        told = {
            name if name not in {"topic", "partition", "offset"} else f"origin_{name}": self.told(name)
            for name in names
        }
        return {"letter": str(self.place), "key": _text(self.key), "attempts": self.attempts} | told


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant: one by its place, or all that fit every given word."""

    place: Place | None = None
    code: str = ""
    service: str = ""
    reason: str = ""
    everything: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was chosen at all, which is not the same as everything."""
        return not (self.place or self.code or self.service or self.reason or self.everything)

    def takes(self, letter: Letter) -> bool:
        """Whether `letter` is meant."""
        return (
            (self.place is None or letter.place == self.place)
            and (not self.code or letter.told("code") == self.code)
            and (not self.service or letter.told("service") == self.service)
            and self.reason in letter.told("reason")
        )


def by_cause(letters: Iterable[Letter]) -> list[dict[str, Any]]:
    """Group letters by cause, the largest group first; each tells its newest letter's full reason."""
    groups: dict[tuple[str, str, str], list[Letter]] = defaultdict(list)
    for letter in letters:
        groups[letter.cause].append(letter)
    return [_group(group) for group in sorted(groups.values(), key=len, reverse=True)]


def _group(letters: list[Letter]) -> dict[str, Any]:
    newest = max(letters, key=lambda letter: (letter.told("at"), letter.place))
    facts = {name: newest.told(name) for name in ("service", "kind", "code", "reason")}
    oldest = min(letter.told("at") for letter in letters)
    return facts | {
        "count": len(letters),
        "attempts": max(letter.attempts for letter in letters),
        "oldest": oldest,
        "newest": newest.told("at"),
        "example": str(newest.place),
    }


def way_back(letter: Letter) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a letter's origin and the headers it goes back with: only the service that failed takes it.

    Raises:
        Rejected: it does not say where it came from.

    """
    origin, service = letter.told("topic"), letter.told("service")
    if not origin or not service:
        raise Rejected(
            "NO_WAY_BACK",
            f"{letter.place} does not say where it came from; `penstock dlq discard` settles it",
        )
    own = [(name, value) for name, value in letter.headers if not name.startswith("dlq_")]
    return origin, [*own, ("dlq_attempts", str(letter.attempts).encode()), ("dlq_only", service.encode())]


def split_by_attempts(letters: Iterable[Letter], most: int, *, force: bool) -> tuple[list[Letter], list[Letter]]:
    """Return the letters to send, and those held back since they failed `most` times already."""
    send: list[Letter] = []
    held: list[Letter] = []
    for letter in letters:
        (send if force or letter.attempts < most else held).append(letter)
    return send, held


def body_for_people(body: bytes | None, limit: int = BODY_LIMIT) -> str:
    """Return a body safe for a terminal: JSON indented, anything else escaped, cut at `limit` bytes."""
    if body is None:
        return "(no body)"
    if not body:
        return "(empty)"
    text = _indented(body) if len(body) <= limit else None
    shown = text if text is not None else _text(body[:limit])
    lines = "\n".join(visible(line) for line in shown.split("\n"))
    return lines if len(body) <= limit else f"{lines}\n… {len(body) - limit:,} bytes more"


def _indented(body: bytes) -> str | None:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "backslashreplace")


def full_document(letter: Letter) -> dict[str, Any]:
    """Return a letter with its headers and body, for a program."""
    headers: Mapping[str, str] = {name: _text(value) for name, value in letter.headers}
    return letter.document() | {
        "headers": headers,
        "body": None if letter.body is None else _text(letter.body),
    }
