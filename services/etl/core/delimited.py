"""Cells between commas, or what else the first line has between its names -> rows of a dataset."""

import csv
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from services.etl.core.cleaning import BLANKS, NO_VALUE, is_blank
from services.etl.core.datasets import Dataset
from services.etl.core.decoding import as_written
from services.etl.core.formulas import may_be_escaped, unescape
from services.etl.core.layouts import Layout, Row, known_names, layout_of, too_many_rows
from services.etl.core.quotes import Quotes, Spans
from services.etl.core.recognizing import named_delimiter, refuse_markup
from services.etl.core.refusing import Refused
from services.etl.core.text import TextReader
from services.etl.core.values import Reject, Rows

_AGAIN_CHARACTERS: Final = 64 << 20
"""How much of one file is read again after quotes that went wrong; enough for mistakes, too little for malice."""

DELIMITERS: Final = (",", ";", "\t", "|")
"""What may stand between the names of a header; of the rest of the file it is not guessed."""
_FORMULA: Final = re.compile(r'="((?:[^"]|"")*)"', re.DOTALL)
"""A text that a spreadsheet is kept from taking for a number: `="00123"`."""
BETWEEN: Final = " \t\v\f"
"""What a line may hold between delimiters and yet be an empty line, like one of delimiters alone."""

# the module's own limit is for the whole process, and smaller than a line may be; lines are bounded before
csv.field_size_limit((1 << 31) - 1)


class Delimited(TextReader):
    """Reads cells between delimiters, quoted where they hold one, after a header that names them.

    The delimiter is the one that the name of the file promises, unless a line `sep=;` before the header names another
    one, or more of the dataset's names stand between others in the header.

    A quoted cell may span lines. A quote that nobody closes costs its row alone: reading goes on with the next line.
    """

    def __init__(self, key: str, dataset: Dataset, delimiter: str, line_bytes: int) -> None:
        super().__init__(key, dataset, line_bytes)
        self.layout: Layout | None = None
        self._use(delimiter)
        self._has_begun = False
        self._stop = 0
        self._again = _AGAIN_CHARACTERS
        self._escapes = False
        self._texts = [place for place, name in enumerate(dataset.fields) if is_text(name, dataset)]

    def _use(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self._quotes = Quotes(delimiter)
        self._blank = f"{delimiter}{BETWEEN}"

    def read(self, block: bytes, *, last: bool) -> tuple[Rows, bytes]:
        """Return the block's rows, and the lines from a quoted cell on that does not end in it; raises Refused."""
        if not last and self._skips_blank(block):
            return Rows(), b""
        raw = self._lines(block)
        if not self._has_begun:
            self._begin(raw)
        self._escapes = may_be_escaped(block)
        records = self._records(raw, last=last)
        if self.layout is None:
            self.layout = self._header(records, last=last)
        rows = self._rows(self.layout, list(records)) if self.layout else Rows()
        self._line += self._stop
        rest = "".join(f"{line}\n" for line in raw[self._stop :])
        return rows, rest.encode(errors="surrogateescape")

    def _begin(self, lines: list[str]) -> None:
        """Look at the first line that is not blank: what it is, and what stands between its names."""
        first = next((index for index, line in enumerate(lines) if not is_blank(line)), None)
        if first is None:
            return
        self._has_begun = True
        line = lines[first].rstrip("\r")[: self._line_bytes]
        if named := named_delimiter(line):
            self._use(named)
            lines[first] = ""  # counted as a line, and skipped like a blank one
            return
        refuse_markup(line, is_json=False)
        self._use(self._delimiter_of(line))

    def _delimiter_of(self, header: str) -> str:
        """Return what stands between the names of a header: what parts most names that the dataset knows."""
        choices = dict.fromkeys((self.delimiter, *DELIMITERS))
        cells = {one: next(csv.reader([header], delimiter=one, skipinitialspace=True), []) for one in choices}
        known = {one: known_names(cells[one], self._dataset) for one in choices}
        if not any(known.values()) and len(cells[self.delimiter]) == 1:
            return max(choices, key=lambda one: len(cells[one]))
        return max(choices, key=lambda one: known[one])

    def _header(self, records: Iterator[tuple[int, str]], *, last: bool) -> Layout | None:
        first = next(records, None)
        if self._rejects:
            wrong = self._rejects[0]
            raise Refused(wrong.code, f"the header cannot be read: {wrong.reason}", value=wrong.value)
        if first is None:
            if last:
                raise Refused("EMPTY", "the file is empty; its first line has to name the columns")
            return None
        (header,) = self._cells([first[1]])
        return layout_of(header, self._key, self._dataset)

    def _rows(self, layout: Layout, records: Sequence[tuple[int, str]]) -> Rows:
        lines, values = [], []
        for (index, text), cells in zip(records, self._cells([text for _, text in records]), strict=True):
            if _fits(cells, layout.width):
                lines.append(self._line + index)
                values.append(self._read(layout, layout.row(cells)))
                self._count.good += 1
            else:
                self._reject(index, "RAGGED", _ragged(len(cells), layout.width), text)
        self._seen += len(values) + len(self._rejects)
        if layout.is_keyless and self._seen > 1:
            raise too_many_rows(self._dataset)
        self._rejects.sort(key=_line_of)
        return Rows(lines, values, self._rejects)

    def _read(self, layout: Layout, row: Row) -> Row:
        """Undo what stands for something else: an escaped formula and, between tabs, no value as COPY writes it."""
        if self._escapes:
            texts = self._texts[1:] if layout.is_keyless else self._texts
            row = tuple(unescape(one) if one and place in texts else one for place, one in enumerate(row))
        return tuple(None if one == NO_VALUE else one for one in row) if self.delimiter == "\t" else row

    def _records(self, raw: list[str], *, last: bool) -> Iterator[tuple[int, str]]:
        """Yield each row's text with the index of its first line; `_stop` is the line that was not read."""
        lines = self._without_returns(raw)
        spans = Spans(lines, self._quotes)
        index, count = 0, len(lines)
        self._stop = 0
        while index < count:
            line = lines[index]
            self._stop = index + 1
            if self._is_long(line):
                self._too_long(index, line)
            elif '"' in line and not self._quotes.are_good(line):
                self._stop = self._odd(lines, spans, index, last=last)
                if self._stop == index:
                    return
                if self._stop > index + 1:
                    text = "\n".join([*raw[index : self._stop - 1], lines[self._stop - 1]])
                    yield from self._whole(index, as_written(text), spans_lines=True)
            elif line.strip(self._blank) and (self.delimiter in line or not is_blank(line)):
                yield from self._whole(index, line)
            index = self._stop

    def _whole(self, index: int, text: str, *, spans_lines: bool = False) -> Iterator[tuple[int, str]]:
        if self._is_broken(text):
            self._not_utf8(index, text)
        elif spans_lines and not self._quotes.are_good(text):
            self._reject(index, "UNCLOSED_QUOTE", "a quote opens here and closes oddly; close or remove it", text)
        else:
            yield index, text

    def _odd(self, lines: Sequence[str], spans: Spans, index: int, *, last: bool) -> int:
        """Return the line after a row that begins here and goes on; the same line: more has to be known.

        The next line: this one is refused.
        """
        if not self._quotes.opens(lines[index]):
            mend = "write quotes inside a cell twice"
            self._reject(index, "BAD_QUOTES", f"something follows a closing quote; {mend}", lines[index])
            return index + 1
        end = spans.end(index)
        if end > len(lines) and not last and spans.bytes_from(index) <= self._line_bytes:
            return index
        if end <= len(lines) and spans.bytes_from(index, end) <= self._line_bytes:
            text = "\n".join(lines[index:end])
            if (self._quotes.are_good(text) and self._fits(text)) or not self._may_read_again(len(text)):
                return end
        self._reject(index, "UNCLOSED_QUOTE", "a quote opens here and does not close; close or remove it", lines[index])
        return index + 1

    def _may_read_again(self, size: int) -> bool:
        """Say whether a row that went wrong costs only its first line; the others are read once more."""
        self._again -= size
        return self._again >= 0

    def _fits(self, text: str) -> bool:
        return self.layout is None or _fits(next(self._cells([text])), self.layout.width)

    def _cells(self, records: Sequence[str]) -> Iterator[list[Any]]:
        tight = map(self._quotes.without_padding, records)
        rows = csv.reader(tight, delimiter=self.delimiter, skipinitialspace=True)
        if any('="' in text for text in records):
            return ([_unwrapped(cell) for cell in cells] for cells in rows)
        return rows


def _unwrapped(cell: str) -> str:
    found = _FORMULA.fullmatch(cell.strip())
    return found[1].replace('""', '"') if found else cell


def _fits(cells: list[Any], width: int) -> bool:
    """Say whether a row has as many cells as columns, blank ones at its end aside: these are taken off."""
    while len(cells) > width and not cells[-1].strip(BLANKS):
        cells.pop()
    return len(cells) == width


def is_text(name: str, dataset: Dataset) -> bool:
    """Say whether a field is text, as the key is: only such cells are escaped when they are published."""
    return name == dataset.key or dataset.columns[name].type == "text"


@lru_cache(maxsize=64)
def _ragged(count: int, width: int) -> str:
    # one text for many rows: a file may have nothing else
    mend = "one may be missing" if count < width else "quote the cell that holds the separator"
    return f"{count} of {width} cells; {mend}"


def _line_of(reject: Reject) -> int:
    return reject.line
