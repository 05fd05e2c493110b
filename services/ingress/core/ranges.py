"""Parse the Range header (RFC 9110, section 14)."""

import re
from dataclasses import dataclass
from typing import Final

from services.ingress.core.problems import HttpProblem

_ONE: Final = re.compile(r"bytes=[ \t]*(\d{0,20})-(\d{0,20})[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes `start` to `end`, exclusive, of `size`."""

    start: int
    end: int
    size: int

    @property
    def length(self) -> int:
        """How many bytes that is."""
        return self.end - self.start

    @property
    def is_whole(self) -> bool:
        """Return whether it is the whole object."""
        return self.length == self.size

    @property
    def content_range(self) -> str:
        """Write it as the answer's Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def parse_range(header: str | None, size: int) -> Range | None:
    """Return the requested range; None if the whole object is to be sent.

    That is so without a header, for several ranges, for other units and for invalid ranges: a server may ignore those.

    Raises HttpProblem: RANGE_PAST_END when the object has none of the bytes.
    """
    if header is None or (found := _ONE.fullmatch(header)) is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start < end:
        return Range(start, end, size)
    if not first and int(last):
        return None  # the last bytes of an empty object are all of it
    raise HttpProblem(
        "RANGE_PAST_END",
        f"the object has {size} bytes, and none of the range asked for: ask for less, or without Range",
        headers={"content-range": f"bytes */{size}"},
    )
