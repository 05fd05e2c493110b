"""Convert JSON Lines to rows of a dataset."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from services.etl.core.cleaning import is_blank, is_nan, normalize_key, normalize_number_key, trim
from services.etl.core.datasets import Dataset, item_of
from services.etl.core.file_types import reject_markup
from services.etl.core.layouts import Layout, Row, extra_column_reason, is_extra, too_many_rows
from services.etl.core.rejects import RejectedFile, printable
from services.etl.core.text_reader import TextReader, has_surrogates
from services.etl.core.values import MAX_WRONG_CELLS, ParsedRows

_NAME_CACHE_SIZE: Final = 4096
"""Cached member names; bounds memory for files with new names in each line."""


class JsonLinesReader(TextReader):
    """Reads one JSON object per line; numbers keep all their digits."""

    def __init__(self, key: str, dataset: Dataset, line_bytes: int) -> None:
        super().__init__(key, dataset, line_bytes)
        self.layout: Layout | None = None
        self._is_keyless = False
        self._item = item_of(key)
        self._fields = dataset.fields
        self._names = lru_cache(maxsize=_NAME_CACHE_SIZE)(normalize_key)

    def read(self, block: bytes, *, last: bool) -> tuple[ParsedRows, bytes]:
        """Return the rows of a block and no rest, because each row is one line; raise RejectedFile."""
        if not last and self._skip_blank(block):
            return ParsedRows(), b""
        numbers, values = [], []
        lines = self._strip_returns(self._lines(block))
        if not self._seen:
            self._detect_format(lines)
        for index, line in enumerate(lines):
            if line and not is_blank(line) and (row := self._row(index, line)):
                numbers.append(self._line + index)
                values.append(row)
                self._count.good += 1
        self._line += len(lines)
        if last and not self._seen:
            raise RejectedFile("EMPTY", "the file is empty; it has to hold an object a line")
        return ParsedRows(numbers, values, self._rejects), b""

    def _detect_format(self, lines: Sequence[str]) -> None:
        first = next((line for line in lines if not is_blank(line)), "")
        reject_markup(first[: self._line_bytes], is_json=True)

    def _row(self, index: int, line: str) -> Row | None:
        self._seen += 1
        if self._is_keyless and self._seen > 1:
            raise too_many_rows(self._dataset)
        if self._is_long(line):
            self._reject_long(index, line)
        elif self._is_bad_utf8(line):
            self._reject_not_utf8(index, line)
        elif (members := _members(line)) is None:
            self._reject(index, "NOT_JSON", "the line is not a JSON object; write one object a line", line)
        else:
            return self._to_row(index, line, members)
        return None

    def _to_row(self, index: int, line: str, members: tuple[tuple[str, Any], ...]) -> Row | None:
        row = {self._names(name): value for name, value in members}
        if wrong := list(islice(self._wrong_members(row, members, line), MAX_WRONG_CELLS)):
            self._reject_cells(index, wrong, line)
            return None
        if self._dataset.key not in row and self._seen == 1:
            self._is_keyless = True
            row[self._dataset.key] = self._item
        elif self._is_keyless:
            raise too_many_rows(self._dataset)
        elif isinstance(key := row.get(self._dataset.key), _Number):
            row[self._dataset.key] = normalize_number_key(key)
        return tuple(row.get(name) for name in self._fields)

    def _wrong_members(
        self, row: dict[str, Any], members: Sequence[object], line: str
    ) -> Iterator[tuple[str, str, str]]:
        """Yield code, reason and column of each error in an object."""
        if len(row) < len(members):
            yield "DUPLICATE_COLUMN", "a member is there twice; keep one of them", ""
        for name in row if self._dataset.extra_columns == "reject" else ():
            if is_extra(name, self._dataset):
                yield "EXTRA_COLUMN", extra_column_reason(name, self._dataset), printable(name)
        for name in self._fields:
            value = row.get(name)
            if isinstance(value, (tuple, list)):
                yield "NESTED", f"{name} holds a list or an object; write one value", name
            elif value is True or value is False:
                row[name] = str(value).lower()
            elif value and "\\u" in line and has_surrogates(value):
                yield "NOT_UTF8", f"{name} holds half a character; write the other half", name


def _members(line: str) -> tuple[tuple[str, Any], ...] | None:
    try:
        found = _DECODER.decode(trim(line))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, tuple) else None


class _Number(str):
    """The text of a JSON number."""

    __slots__ = ()


def _parse_constant(text: str) -> str | None:
    """Accept NaN and infinity, which many programs write; NaN is a missing value."""
    return None if is_nan(text) else text


_DECODER: Final = json.JSONDecoder(
    parse_int=_Number, parse_float=_Number, parse_constant=_parse_constant, object_pairs_hook=tuple
)
