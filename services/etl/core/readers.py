"""Select the reader of a text file."""

from typing import Protocol

from services.etl.core.datasets import Dataset, format_of
from services.etl.core.delimited import DelimitedReader
from services.etl.core.jsonlines import JsonLinesReader
from services.etl.core.layouts import Layout
from services.etl.core.values import ParsedRows


class Reader(Protocol):
    """Converts blocks of whole lines to rows."""

    layout: Layout | None

    def read(self, block: bytes, *, last: bool) -> tuple[ParsedRows, bytes]:
        """Return the rows of a block, and the lines to put before the next block; raise RejectedFile."""
        ...

    def skip(self, lines: int) -> int:
        """Count lines that the caller read; return the number of the first one."""
        ...


def reader_for(key: str, dataset: Dataset, line_bytes: int) -> Reader:
    """Return the reader for the format of a file name."""
    what = format_of(key)
    if what == "jsonl":
        return JsonLinesReader(key, dataset, line_bytes)
    return DelimitedReader(key, dataset, "\t" if what == "tsv" else ",", line_bytes)
