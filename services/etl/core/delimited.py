"""Convert delimited text (CSV, TSV) to rows of a dataset."""

import csv
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from services.etl.core.cleaning import BLANKS, COPY_NULL, is_blank
from services.etl.core.datasets import Dataset
from services.etl.core.decoding import restore_line_ends
from services.etl.core.file_types import excel_delimiter, reject_markup
from services.etl.core.layouts import Layout, Row, count_known_names, layout_of, too_many_rows
from services.etl.core.quotes import RowSpans, quote_matcher
from services.etl.core.rejects import RejectedFile
from services.etl.core.spreadsheet_escape import may_hold_escapes, unescape
from services.etl.core.text_reader import TextReader
from services.etl.core.values import ParsedRows, RejectedRow

_MAX_REREAD_CHARACTERS: Final = 64 << 20
"""How much of a file may be read again after broken quotes; bounds the cost of hostile files."""

DELIMITERS: Final = (",", ";", "\t", "|")
"""Delimiters that are detected in the header; rows are not used for detection."""
_FORMULA: Final = re.compile(r'="((?:[^"]|"")*)"', re.DOTALL)
"""Text that a spreadsheet must not read as a number: `="00123"`."""
CELL_BLANKS: Final = " \t\v\f"
"""A line of only these characters and delimiters is empty."""

# csv's default limit is process-wide and below the maximum line; lines are bounded before they get here
csv.field_size_limit((1 << 31) - 1)


class DelimitedReader(TextReader):
    """Reads delimited cells, optionally quoted, after a header.

    The delimiter follows from the file name, unless a line `sep=;` before the header names another one, or another one
    yields more of the dataset's column names in the header.

    A quoted cell may span lines. An unclosed quote rejects only its own row; reading goes on with the next line.
    """

    def __init__(self, key: str, dataset: Dataset, delimiter: str, line_bytes: int) -> None:
        super().__init__(key, dataset, line_bytes)
        self.layout: Layout | None = None
        self._set_delimiter(delimiter)
        self._is_started = False
        self._next_line = 0
        self._reread_left = _MAX_REREAD_CHARACTERS
        self._may_hold_escapes = False
        self._text_indexes = [index for index, name in enumerate(dataset.fields) if is_text_field(name, dataset)]

    def _set_delimiter(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self._quotes = quote_matcher(delimiter)
        self._empty_line = f"{delimiter}{CELL_BLANKS}"

    def read(self, block: bytes, *, last: bool) -> tuple[ParsedRows, bytes]:
        """Return the rows of a block, and its last lines if their quoted cell is still open; raise RejectedFile."""
        if not last and self._skip_blank(block):
            return ParsedRows(), b""
        raw = self._lines(block)
        if not self._is_started:
            self._detect_delimiter(raw)
        self._may_hold_escapes = may_hold_escapes(block)
        records = self._records(raw, last=last)
        if self.layout is None:
            self.layout = self._header(records, last=last)
        rows = self._rows(self.layout, list(records)) if self.layout else ParsedRows()
        self._line += self._next_line
        rest = "".join(f"{line}\n" for line in raw[self._next_line :])
        return rows, rest.encode(errors="surrogateescape")

    def _detect_delimiter(self, lines: list[str]) -> None:
        """Detect the delimiter from the first nonblank line; raise RejectedFile if it is markup or JSON."""
        first = next((index for index, line in enumerate(lines) if not is_blank(line)), None)
        if first is None:
            return
        self._is_started = True
        line = lines[first].rstrip("\r")[: self._line_bytes]
        if named := excel_delimiter(line):
            self._set_delimiter(named)
            lines[first] = ""  # counted as a line, and skipped like a blank one
            return
        reject_markup(line, is_json=False)
        self._set_delimiter(self._best_delimiter(line))

    def _best_delimiter(self, header: str) -> str:
        """Return the delimiter that yields most of the dataset's column names in the header."""
        candidates = dict.fromkeys((self.delimiter, *(one for one in DELIMITERS if one in header)))
        if len(candidates) == 1:
            return self.delimiter
        cells = {one: next(csv.reader([header], delimiter=one, skipinitialspace=True), []) for one in candidates}
        known = {one: count_known_names(cells[one], self._dataset) for one in candidates}
        if not any(known.values()) and len(cells[self.delimiter]) == 1:
            return max(candidates, key=lambda one: len(cells[one]))
        return max(candidates, key=lambda one: known[one])

    def _header(self, records: Iterator[tuple[int, str]], *, last: bool) -> Layout | None:
        first = next(records, None)
        if self._rejects:
            reject = self._rejects[0]
            raise RejectedFile(reject.code, f"the header cannot be read: {reject.reason}", value=reject.value)
        if first is None:
            if last:
                raise RejectedFile("EMPTY", "the file is empty; its first line has to name the columns")
            return None
        (header,) = self._cells([first[1]])
        return layout_of(header, self._key, self._dataset)

    def _rows(self, layout: Layout, records: Sequence[tuple[int, str]]) -> ParsedRows:
        lines, values = [], []
        for (index, text), cells in zip(records, self._cells([text for _, text in records]), strict=True):
            if _has_width(cells, layout.width):
                lines.append(self._line + index)
                values.append(self._restore(layout, layout.row(cells)))
                self._count.good += 1
            else:
                self._reject(index, "RAGGED", _ragged_reason(len(cells), layout.width), text)
        self._seen += len(values) + len(self._rejects)
        if layout.is_keyless and self._seen > 1:
            raise too_many_rows(self._dataset)
        self._rejects.sort(key=_line_of)
        return ParsedRows(lines, values, self._rejects)

    def _restore(self, layout: Layout, row: Row) -> Row:
        """Unescape formulas and, in tab-separated files, replace COPY's NULL by None."""
        if self._may_hold_escapes:
            texts = self._text_indexes[1:] if layout.is_keyless else self._text_indexes
            row = tuple(unescape(one) if one and index in texts else one for index, one in enumerate(row))
        return tuple(None if one == COPY_NULL else one for one in row) if self.delimiter == "\t" else row

    def _records(self, raw: list[str], *, last: bool) -> Iterator[tuple[int, str]]:
        """Yield the text of each row with the index of its first line; `_next_line` is the first line not read."""
        lines = self._strip_returns(raw)
        spans = RowSpans(lines, self._quotes)
        index, count = 0, len(lines)
        self._next_line = 0
        while index < count:
            line = lines[index]
            self._next_line = index + 1
            if self._is_long(line):
                self._reject_long(index, line)
            elif '"' in line and not self._quotes.are_closed(line):
                self._next_line = self._end_of_quoted_row(lines, spans, index, last=last)
                if self._next_line == index:
                    return
                if self._next_line > index + 1:
                    text = "\n".join([*raw[index : self._next_line - 1], lines[self._next_line - 1]])
                    yield from self._check_record(index, restore_line_ends(text), spans_lines=True)
            elif line.strip(self._empty_line) and (self.delimiter in line or not is_blank(line)):
                yield from self._check_record(index, line)
            index = self._next_line

    def _check_record(self, index: int, text: str, *, spans_lines: bool = False) -> Iterator[tuple[int, str]]:
        if self._is_bad_utf8(text):
            self._reject_not_utf8(index, text)
        elif spans_lines and not self._quotes.are_closed(text):
            self._reject(index, "UNCLOSED_QUOTE", "a quote opens here and closes oddly; close or remove it", text)
        else:
            yield index, text

    def _end_of_quoted_row(self, lines: Sequence[str], spans: RowSpans, index: int, *, last: bool) -> int:
        """Return the index after the row that starts at `index` with an open quote.

        Return `index` itself if more lines are needed, or `index` + 1 after rejecting the line.
        """
        if not self._quotes.leaves_open(lines[index]):
            hint = "write quotes inside a cell twice"
            self._reject(index, "BAD_QUOTES", f"something follows a closing quote; {hint}", lines[index])
            return index + 1
        end = spans.end(index)
        if end > len(lines) and not last and spans.bytes_from(index) <= self._line_bytes:
            return index
        if end <= len(lines) and spans.bytes_from(index, end) <= self._line_bytes:
            text = "\n".join(lines[index:end])
            if (self._quotes.are_closed(text) and self._has_width(text)) or not self._may_reread(len(text)):
                return end
        self._reject(index, "UNCLOSED_QUOTE", "a quote opens here and does not close; close or remove it", lines[index])
        return index + 1

    def _may_reread(self, size: int) -> bool:
        """Return whether the lines of a broken row may be read again, within _MAX_REREAD_CHARACTERS."""
        self._reread_left -= size
        return self._reread_left >= 0

    def _has_width(self, text: str) -> bool:
        return self.layout is None or _has_width(next(self._cells([text])), self.layout.width)

    def _cells(self, records: Sequence[str]) -> Iterator[list[Any]]:
        unpadded = map(self._quotes.strip_padding, records)
        rows = csv.reader(unpadded, delimiter=self.delimiter, skipinitialspace=True)
        if any('="' in text for text in records):
            return ([_unwrap_formula(cell) for cell in cells] for cells in rows)
        return rows


def _unwrap_formula(cell: str) -> str:
    found = _FORMULA.fullmatch(cell.strip())
    return found[1].replace('""', '"') if found else cell


def _has_width(cells: list[Any], width: int) -> bool:
    """Remove surplus blank cells from the end; return whether the row has `width` cells."""
    while len(cells) > width and not cells[-1].strip(BLANKS):
        cells.pop()
    return len(cells) == width


def is_text_field(name: str, dataset: Dataset) -> bool:
    """Return whether a field is text or the key; only these are escaped in output files."""
    return name == dataset.key or dataset.columns[name].type == "text"


@lru_cache(maxsize=64)
def _ragged_reason(count: int, width: int) -> str:
    # cached: many rows of a file may have the same reason
    hint = "one may be missing" if count < width else "quote the cell that holds the separator"
    return f"{count} of {width} cells; {hint}"


def _line_of(reject: RejectedRow) -> int:
    return reject.line
