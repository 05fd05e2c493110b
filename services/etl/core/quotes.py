"""Where quoted cells begin and end, found in time that depends on a text's length alone."""

import re
from collections.abc import Sequence
from itertools import accumulate

from services.etl.core.cleaning import BLANKS
from services.etl.core.text import bytes_of


class Quotes:
    """What quotes mean in a line, as the csv module has it; blanks around them mean nothing.

    The patterns never look back.
    """

    def __init__(self, delimiter: str) -> None:
        delimiter = re.escape(delimiter)
        inside = '[^"]*+(?:""[^"]*+)*+"'
        rest = f"[^{delimiter}]*+"
        odd = "".join(sorted(set(BLANKS) - {" ", "\r", "\n", delimiter}))
        blanks = f"[ {odd}]*+"
        cell = f'{blanks}(?:"{inside}{rest}|(?!"){rest})'
        content = f'(?:"{inside}{blanks}|[^"{delimiter}][^{delimiter}]*+|)'
        good = f"{blanks}{content}"
        self._good = re.compile(f"{good}(?:{delimiter}{good})*+")
        self._whole = re.compile(f"{cell}(?:{delimiter}{cell})*+")
        self._tail = re.compile(f"{inside}{rest}(?:{delimiter}{cell})*+")
        self._cell = re.compile(f"(^|{delimiter}){blanks}({content})")
        self._padded = re.compile(f'[{odd}] *"')

    def are_good(self, text: str) -> bool:
        """Say whether every quoted cell of a row closes, with nothing but blanks behind it."""
        return self._good.fullmatch(text) is not None

    def without_padding(self, text: str) -> str:
        """Take off the blanks before cells of a good row: the csv module knows none but spaces."""
        return self._cell.sub(r"\1\2", text) if '"' in text and self._padded.search(text) else text

    def opens(self, line: str) -> bool:
        """Say whether a quoted cell goes on after a line that begins a row."""
        return self._whole.fullmatch(line) is None

    def closes(self, line: str) -> bool:
        """Say whether a line that begins inside a quoted cell ends its row."""
        return '"' in line and self._tail.fullmatch(line) is not None


class Spans:
    """Which line ends a row that goes on; every line is looked at once, however many rows are open."""

    def __init__(self, lines: Sequence[str], quotes: Quotes) -> None:
        self._lines = lines
        self._quotes = quotes
        self._end = 0
        self._offsets: list[int] = []

    def end(self, index: int) -> int:
        """Return the line after the row that is open after `index`; more than there are lines: it stays open."""
        if self._end <= index + 1:
            closing = (at for at in range(index + 1, len(self._lines)) if self._quotes.closes(self._lines[at]))
            self._end = next(closing, len(self._lines)) + 1
        return self._end

    def bytes_from(self, index: int, end: int | None = None) -> int:
        """Count the bytes of some lines, their ends included."""
        if not self._offsets:
            self._offsets = [0, *accumulate(bytes_of(line) + 1 for line in self._lines)]
        return self._offsets[len(self._lines) if end is None else end] - self._offsets[index]
