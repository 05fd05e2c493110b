"""Whether the object that a client knows is the one there is (RFC 9110, section 13)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final, Literal

Verdict = Literal["send", "not_modified", "failed"]

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of an object from another; `modified` counts in whole seconds, as dates in headers do."""

    etag: str
    modified: datetime

    @property
    def headers(self) -> dict[str, str]:
        """Tell them to a client."""
        return {"etag": f'"{self.etag}"', "last-modified": format_datetime(self._second, usegmt=True)}

    def judge(self, asked: Mapping[str, str]) -> Verdict:
        """Tell what a GET with these headers, names in lower case, is to be answered with."""
        if "if-match" in asked:
            if not self._is_among(asked["if-match"], weakly=False):
                return "failed"
        elif self._is_older_than_mine(asked.get("if-unmodified-since")):
            return "failed"
        if "if-none-match" in asked:
            return "not_modified" if self._is_among(asked["if-none-match"], weakly=True) else "send"
        since = _date(asked.get("if-modified-since"))
        return "not_modified" if since is not None and self._second <= since else "send"

    def allow_range(self, asked: Mapping[str, str]) -> bool:
        """Tell whether a range may be sent: with If-Range only of the very version that it names."""
        text = asked.get("if-range")
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


def _date(text: str | None) -> datetime | None:
    """Read a date; one that cannot be read is as none."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None
