"""Conditional requests (RFC 9110, section 13): preconditions of reads and of writes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final, Literal, Self

from services.ingress.core.problems import HttpProblem
from shared.errors import Rejected
from shared.object_headers import ABSENT, PRESENT

ReadDecision = Literal["send", "not_modified", "failed"]

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


@dataclass(frozen=True, slots=True)
class Validators:
    """ETag and modification time of one version; `modified` counts whole seconds, like dates in headers."""

    etag: str
    modified: datetime

    @property
    def headers(self) -> dict[str, str]:
        """Return the ETag and Last-Modified headers."""
        return {"etag": f'"{self.etag}"', "last-modified": format_datetime(self._second, usegmt=True)}

    def decide_read(self, headers: Mapping[str, str]) -> ReadDecision:
        """Decide how to answer a GET with these headers, names in lower case."""
        if "if-match" in headers:
            if not self._is_among(headers["if-match"], weakly=False):
                return "failed"
        elif self._is_older_than_mine(headers.get("if-unmodified-since")):
            return "failed"
        if "if-none-match" in headers:
            return "not_modified" if self._is_among(headers["if-none-match"], weakly=True) else "send"
        since = _date(headers.get("if-modified-since"))
        return "not_modified" if since is not None and self._second <= since else "send"

    def allow_range(self, headers: Mapping[str, str]) -> bool:
        """Return whether a range may be sent: with If-Range, only for exactly that version."""
        text = headers.get("if-range")
        if text is None:
            return True
        return self._is_among(text, weakly=False) if '"' in text else _date(text) == self._second

    @property
    def _second(self) -> datetime:
        return self.modified.astimezone(UTC).replace(microsecond=0)

    def _is_among(self, text: str, *, weakly: bool) -> bool:
        if text.strip() == "*":
            return True
        return any(tag == self.etag and (weakly or not weak) for weak, tag in _TAG.findall(text))

    def _is_older_than_mine(self, text: str | None) -> bool:
        date = _date(text)
        return date is not None and date < self._second


WRITE_CONDITIONS: Final = ("if-match", "if-none-match", "if-unmodified-since")
_ANY: Final = "*"
_ETAG_IN_LIST: Final = re.compile(r'[ \t]*(?:(W/)?"([^"]*)"|([^\s",*]+))[ \t]*(?:,|$)')
"""One of a list of etags; S3 clients leave the quotes out."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """The precondition of a write or a removal; without a header there is none.

    An etag is weak or strong; `("*",)` stands for any object.
    """

    match: tuple[tuple[bool, str], ...] | None = None
    none_match: tuple[tuple[bool, str], ...] | None = None
    unmodified_since: datetime | None = None

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> Self:
        """Read the headers, names in lower case; raises Rejected (BAD_CONDITION) for one that cannot be read."""
        since = headers.get("if-unmodified-since")
        if since is not None and _date(since) is None:
            raise Rejected("BAD_CONDITION", f"If-Unmodified-Since is {since[:40]!r}: send a date as HTTP writes it")
        return cls(_etags(headers, "if-match"), _etags(headers, "if-none-match"), _date(since))

    def __bool__(self) -> bool:
        """Whether anything must hold."""
        return self != Precondition()

    def require_match(self, found: Validators | None) -> str | None:
        """Return what the store must still find when it writes: an etag, PRESENT or ABSENT; None for anything.

        Raises Problem: SUPERSEDED when the condition does not hold of the object that was `found` there.
        """
        if self.match is not None and (found is None or not _holds(self.match, found.etag, weakly=False)):
            raise _superseded("the object is not the version that If-Match names: look at it again")
        if self.match is None and self._is_modified(found):
            raise _superseded("the object was modified after If-Unmodified-Since: look at it again")
        if self.none_match is not None and found is not None and _holds(self.none_match, found.etag, weakly=True):
            raise _superseded("the object is there, and If-None-Match forbids that: take another key, or leave it")
        if not self:
            return None
        if self == Precondition(match=((False, _ANY),)):
            return PRESENT
        return ABSENT if found is None else found.etag

    def _is_modified(self, found: Validators | None) -> bool:
        if self.unmodified_since is None or found is None:
            return False
        return found.modified.astimezone(UTC).replace(microsecond=0) > self.unmodified_since


def _superseded(reason: str) -> HttpProblem:
    return HttpProblem("SUPERSEDED", reason)


def _etags(headers: Mapping[str, str], name: str) -> tuple[tuple[bool, str], ...] | None:
    text = headers.get(name)
    if text is None:
        return None
    if text.strip() == _ANY:
        return ((False, _ANY),)
    found: list[tuple[bool, str]] = []
    at = 0
    while at < len(text.rstrip()):
        if (one := _ETAG_IN_LIST.match(text, at)) is None:
            break
        weak, quoted, plain = one.groups()
        found.append((weak is not None, quoted if plain is None else plain))
        at = one.end()
    if not found or at < len(text.rstrip()):
        raise Rejected("BAD_CONDITION", f"{name} is {text[:80]!r}: send an ETag in quotes, a list of them, or *")
    return tuple(found)


def _holds(etags: tuple[tuple[bool, str], ...], etag: str, *, weakly: bool) -> bool:
    return any(text in {etag, _ANY} and (weakly or not weak) for weak, text in etags)


def _date(text: str | None) -> datetime | None:
    """Read a date; one that cannot be read is as none."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None
