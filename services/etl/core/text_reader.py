"""Shared by all text formats: decode lines, and reject lines that are not text."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.etl.core.datasets import Dataset
from services.etl.core.decoding import strip_returns
from services.etl.core.limits import RowCount
from services.etl.core.rejects import printable
from services.etl.core.values import RejectedRow

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class TextReader:
    """Tracks the line number, and rejects lines that are too long or not UTF-8."""

    def __init__(self, key: str, dataset: Dataset, line_bytes: int) -> None:
        self._key = key
        self._dataset = dataset
        self._line_bytes = line_bytes
        self._line = 1
        self._seen = 0
        self._count = RowCount()
        self._rejects: list[RejectedRow] = []
        self._has_bad_utf8 = self._may_be_long = self._has_returns = False

    def skip(self, lines: int) -> int:
        """Count lines that the caller read; return the number of the first one."""
        first = self._line
        self._line += lines
        self._seen += lines
        self._count.add(good=lines)
        return first

    def _lines(self, block: bytes) -> list[str]:
        r"""Return the lines of a block without `\n`, but with `\r`."""
        self._rejects = []
        self._may_be_long = len(block) > self._line_bytes
        self._has_returns = b"\r" in block
        try:
            text, self._has_bad_utf8 = block.decode(), False
        except UnicodeDecodeError:
            text, self._has_bad_utf8 = block.decode(errors="surrogateescape"), True
        lines = text.split("\n")
        lines.pop()
        return lines

    def _strip_returns(self, lines: list[str]) -> list[str]:
        return [strip_returns(line) for line in lines] if self._has_returns else lines

    def _skip_blank(self, block: bytes) -> bool:
        """Skip a block of only blank lines; return whether it was one. Cheap, because gzip makes such blocks tiny."""
        if not block.isspace() or b"\t" in block or has_long_line(block, self._line_bytes):
            return False
        self._line += block.count(b"\n")
        return True

    def _is_long(self, line: str) -> bool:
        return self._may_be_long and byte_length(line) > self._line_bytes

    def _is_bad_utf8(self, text: str) -> bool:
        return self._has_bad_utf8 and has_surrogates(text)

    def _reject(self, index: int, code: str, reason: str, text: str) -> None:
        self._count.add(rejected=1)
        self._rejects.append(RejectedRow(self._line + index, code, reason, "", printable(text)))

    def _reject_cells(self, index: int, wrong: Sequence[tuple[str, str, str]], text: str) -> None:
        """Reject a row for several cells, each with code, reason and column."""
        self._count.add(rejected=1)
        first, *more = (
            RejectedRow(self._line + index, code, reason, name, printable(text)) for code, reason, name in wrong
        )
        self._rejects.append(replace(first, more=tuple(more)))

    def _reject_long(self, index: int, line: str) -> None:
        hint = "is a line break missing?"
        # long lines are truncated while streaming, so show only what both ways of reading have
        beginning = line[: self._line_bytes // 4]
        self._reject(index, "LINE_TOO_LONG", f"the line has more than {self._line_bytes:,} bytes; {hint}", beginning)

    def _reject_not_utf8(self, index: int, text: str) -> None:
        self._reject(index, "NOT_UTF8", "the row has bytes that are not UTF-8; save the file as UTF-8", text)


def has_surrogates(text: str) -> bool:
    """Return whether text has surrogates: undecodable bytes, or half a UTF-16 pair."""
    return _SURROGATE.search(text) is not None


def has_long_line(block: bytes, line_bytes: int) -> bool:
    """Return whether a block of whole lines has one above `line_bytes`."""
    at = 0
    while len(block) - at > line_bytes + 1:
        at = block.rfind(b"\n", at, at + line_bytes + 1) + 1
        if not at:
            return True
    return False


def byte_length(line: str) -> int:
    """Return the encoded size of a line in bytes."""
    return len(line) if line.isascii() else len(line.encode(errors="surrogateescape"))
