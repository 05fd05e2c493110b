"""Convert large files to batches of rows in bounded memory: whole blocks by polars if safe, else line by line."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import polars as pl

from services.etl.core.cleaning import COPY_NULL
from services.etl.core.datasets import Dataset, is_compressed
from services.etl.core.decoding import Decoder, LineBuffer
from services.etl.core.delimited import CELL_BLANKS, DelimitedReader, is_text_field
from services.etl.core.frames import Batch, empty_frame, text_frame
from services.etl.core.layouts import Layout
from services.etl.core.readers import reader_for
from services.etl.core.rejects import RejectedFile
from services.etl.core.spreadsheet_escape import may_hold_escapes, unescape_column
from services.etl.core.text_reader import has_long_line
from services.etl.core.values import LINE

BLOCK_BYTES: Final = 1 << 20
"""Bytes of text per batch."""
_BOM: Final = b"\xef\xbb\xbf"


class RowStream:
    """Incremental reader of a file of rows, with the same results as `read_small_file`.

    Feed compressed files in small pieces, because the whole expansion of a piece is returned at once.
    """

    def __init__(self, key: str, dataset: Dataset, *, line_bytes: int, block_bytes: int = BLOCK_BYTES) -> None:
        self._dataset = dataset
        self._decoder = Decoder(compressed=is_compressed(key))
        self._lines = LineBuffer(line_bytes)
        self._reader = reader_for(key, dataset, line_bytes)
        self._line_bytes = line_bytes
        self._block_bytes = block_bytes
        self._rest = b""
        self.is_rejected = False
        """The whole file is rejected; stop feeding."""

    def feed(self, piece: bytes) -> list[Batch]:
        """Take the next bytes, split anywhere; return the complete batches."""
        return list(self._until_rejected(self._feed(piece)))

    def end(self) -> list[Batch]:
        """Return the remaining rows."""
        return list(self._until_rejected(self._end()))

    def _feed(self, piece: bytes) -> Iterator[Batch]:
        for at in range(0, len(piece), BLOCK_BYTES):
            for text in self._decoder.feed(piece[at : at + BLOCK_BYTES]):
                self._lines.add(text)
                if self._lines.size >= self._block_bytes:
                    yield self._read_block(self._rest + self._lines.take(), last=False)

    def _end(self) -> Iterator[Batch]:
        self._lines.add(self._decoder.end())
        yield self._read_block(self._rest + self._lines.end(), last=True)

    def _until_rejected(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        if self.is_rejected:
            return
        try:
            yield from batches
        except RejectedFile as rejected:
            self.is_rejected = True
            yield Batch(empty_frame(self._dataset), [rejected.reject])

    def _read_block(self, block: bytes, *, last: bool) -> Batch:
        if (frame := self._read_regular(block)) is not None:
            self._rest = b""
            return Batch(frame, [])
        rows, self._rest = self._reader.read(block, last=last)
        return Batch(text_frame(rows, self._dataset), list(rows.rejects))

    def _read_regular(self, block: bytes) -> pl.DataFrame | None:
        """Read a block with polars if each of its lines is certainly one row of the right width; else None."""
        reader = self._reader
        if not isinstance(reader, DelimitedReader) or not (layout := reader.layout) or layout.is_keyless:
            return None
        # regular lines have no quoted line ends, so each CR belongs to a line end
        block = block.replace(b"\r", b"")
        count = block.count(b"\n")
        if not count or not self._is_regular(block, count, layout, reader.delimiter):
            return None
        cells = _parse_csv(block, layout.width, reader.delimiter)
        if cells is None or cells.height != count:
            return None
        first = reader.skip(count)
        number = pl.int_range(first, first + count, dtype=pl.Int64).alias(LINE)
        return cells.select(number, *self._fields(layout, block, reader.delimiter))

    def _fields(self, layout: Layout, block: bytes, delimiter: str) -> Iterator[pl.Expr]:
        """Convert cells as DelimitedReader does."""
        has_escaped = may_hold_escapes(block)
        has_copy_null = delimiter == "\t" and COPY_NULL.encode() in block
        for index, name in zip(layout.indexes, self._dataset.fields, strict=True):
            cell = pl.col(f"{index}") if index < layout.width else pl.lit(None, dtype=pl.String)
            cell = unescape_column(cell) if has_escaped and is_text_field(name, self._dataset) else cell
            yield (pl.when(cell != COPY_NULL).then(cell) if has_copy_null else cell).alias(name)

    def _is_regular(self, block: bytes, count: int, layout: Layout, delimiter: str) -> bool:
        # a single cell could be a blank line, an unnamed cell a value; polars would strip a byte order mark
        if (
            layout.width == 1
            or layout.trailing_unnamed
            or block.startswith(_BOM)
            or has_long_line(block, self._line_bytes)
        ):
            return False
        # text written as a formula, or a blank row
        if b'=""' in block or _has_blank_row(block, delimiter):
            return False
        if b'"' in block:
            return bool(_regular_lines(layout.width, delimiter).fullmatch(block))
        # the total is right and polars rejects lines with too many separators, so no line has too few
        return block.count(delimiter.encode()) == count * (layout.width - 1)


def _parse_csv(block: bytes, width: int, delimiter: str) -> pl.DataFrame | None:
    schema = dict.fromkeys((f"{index}" for index in range(width)), pl.String)
    quote = '"' if b'"' in block else None
    try:
        return pl.read_csv(block, has_header=False, schema=schema, separator=delimiter, quote_char=quote)
    except pl.exceptions.PolarsError:
        return None


def _has_blank_row(block: bytes, delimiter: str) -> bool:
    first, later = _blank_rows(delimiter)
    return bool(first.match(block) or later.search(block))


@lru_cache(maxsize=64)
def _blank_rows(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Match a line of only delimiters and blanks: the first one, and later ones."""
    blank = f"[{re.escape(delimiter)}{CELL_BLANKS}]*+\n".encode()
    return re.compile(blank), re.compile(b"\n" + blank)


@lru_cache(maxsize=64)
def _regular_lines(width: int, delimiter: str) -> re.Pattern[bytes]:
    """Match lines of `width` cells that are either unquoted or fully quoted, without line ends inside."""
    delimiter = re.escape(delimiter)
    cell = f'(?:[^"{delimiter}\n]*+|"[^"\n]*+(?:""[^"\n]*+)*+")'
    return re.compile(f"(?:{cell}(?:{delimiter}{cell}){{{width - 1}}}\n)*+".encode())
