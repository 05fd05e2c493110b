"""Find quoted cells in linear time."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from services.etl.core.cleaning import BLANKS
from services.etl.core.text_reader import byte_length


class QuoteMatcher:
    """Matches quoted cells like the csv module, but ignores blanks around quotes; the patterns do not backtrack."""

    def __init__(self, delimiter: str) -> None:
        delimiter = re.escape(delimiter)
        inside = '[^"]*+(?:""[^"]*+)*+"'
        rest = f"[^{delimiter}]*+"
        other_blanks = "".join(sorted(set(BLANKS) - {" ", "\r", "\n", delimiter}))
        blanks = f"[ {other_blanks}]*+"
        cell = f'{blanks}(?:"{inside}{rest}|(?!"){rest})'
        content = f'(?:"{inside}{blanks}|[^"{delimiter}][^{delimiter}]*+|)'
        closed_cell = f"{blanks}{content}"
        self._closed_row = re.compile(f"{closed_cell}(?:{delimiter}{closed_cell})*+")
        self._complete_row = re.compile(f"{cell}(?:{delimiter}{cell})*+")
        self._tail = re.compile(f"{inside}{rest}(?:{delimiter}{cell})*+")
        self._cell = re.compile(f"(^|{delimiter}){blanks}({content})")
        self._has_padding = re.compile(f'[{other_blanks}] *"')

    def are_closed(self, text: str) -> bool:
        """Return whether each quoted cell of a row is closed and followed only by blanks."""
        return self._closed_row.fullmatch(text) is not None

    def strip_padding(self, text: str) -> str:
        """Strip blanks before the cells of a well-formed row; the csv module strips only spaces."""
        return self._cell.sub(r"\1\2", text) if '"' in text and self._has_padding.search(text) else text

    def leaves_open(self, line: str) -> bool:
        """Return whether the first line of a row ends within a quoted cell."""
        return self._complete_row.fullmatch(line) is None

    def closes(self, line: str) -> bool:
        """Return whether a line that starts within a quoted cell ends its row."""
        return '"' in line and self._tail.fullmatch(line) is not None


@lru_cache(maxsize=16)
def quote_matcher(delimiter: str) -> QuoteMatcher:
    """Return the matcher of a delimiter; compiling its patterns costs more than reading a file of one row."""
    return QuoteMatcher(delimiter)


class RowSpans:
    """Finds the last line of multi-line rows; scans each line only once."""

    def __init__(self, lines: Sequence[str], quotes: QuoteMatcher) -> None:
        self._lines = lines
        self._quotes = quotes
        self._end = 0
        self._offsets: list[int] = []

    def end(self, index: int) -> int:
        """Return the index after the row that starts at `index`; above the line count if it stays open."""
        if self._end <= index + 1:
            closing = (at for at in range(index + 1, len(self._lines)) if self._quotes.closes(self._lines[at]))
            self._end = next(closing, len(self._lines)) + 1
        return self._end

    def bytes_from(self, index: int, end: int | None = None) -> int:
        """Return the bytes of the lines from `index` to `end`, including line ends."""
        if not self._offsets:
            self._offsets = [0, *accumulate(byte_length(line) + 1 for line in self._lines)]
        return self._offsets[len(self._lines) if end is None else end] - self._offsets[index]
