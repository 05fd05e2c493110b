"""Which reader reads a file of lines."""

from typing import Protocol

from services.etl.core.datasets import Dataset, format_of
from services.etl.core.delimited import DelimitedReader
from services.etl.core.jsonlines import JsonLinesReader
from services.etl.core.layouts import Layout
from services.etl.core.values import ParsedRows


class Reader(Protocol):
    """Reads blocks of whole lines."""

    layout: Layout | None

    def read(self, block: bytes, *, last: bool) -> tuple[ParsedRows, bytes]:
        """Return the rows of a block, and the lines that wait for the next; raises Refused."""
        ...

    def skip(self, lines: int) -> int:
        """Count lines that somebody else read; return the number of the first."""
        ...


def reader_for(key: str, dataset: Dataset, line_bytes: int) -> Reader:
    """Return what reads the text that the name of a file promises."""
    what = format_of(key)
    if what == "jsonl":
        return JsonLinesReader(key, dataset, line_bytes)
    return DelimitedReader(key, dataset, "\t" if what == "tsv" else ",", line_bytes)
