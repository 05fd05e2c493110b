"""Small files -> rows, at once."""

import zlib
from typing import Final

from services.etl.core.apart import parquet_rows
from services.etl.core.datasets import Dataset, format_of, is_compressed
from services.etl.core.decoding import Decoder, Lines, is_gzip
from services.etl.core.records import reader_of
from services.etl.core.refusing import Refused
from services.etl.core.values import Rows

MOST_BYTES: Final = 32 << 20
"""The most that a small file may expand to."""


def read_small(body: bytes, key: str, dataset: Dataset, *, line_bytes: int) -> Rows:
    """Read a file whole; whatever its bytes are, what is wrong with them is among the rejects.

    A reject of line 0 is of the file as a whole; then it is the only one, and there are no rows.
    """
    try:
        if format_of(key) == "parquet":
            return parquet_rows(body, key, dataset)
        return _read(body, key, dataset, line_bytes)
    except Refused as refused:
        return Rows(rejects=(refused.reject,))


def is_small(body: bytes, key: str, most: int) -> bool:
    """Say whether a file stays small when it is read: compressed ones are expanded as far as `most` bytes.

    What is damaged is small: `read_small` says what is wrong with it.
    """
    if format_of(key) == "parquet" or len(body) > most:
        return False
    if not is_compressed(key) and not is_gzip(body):
        return True
    try:
        decoder, size = Decoder(compressed=True), 0
        for text in decoder.feed(body):
            size += len(text)
            if size > most:
                return False
        return size + len(decoder.end()) <= most
    except (Refused, zlib.error):
        return True


def _read(body: bytes, key: str, dataset: Dataset, line_bytes: int) -> Rows:
    decoder = Decoder(compressed=is_compressed(key))
    lines = Lines(line_bytes)
    for text in decoder.feed(body):
        lines.add(text)
        if lines.size > MOST_BYTES:
            raise Refused("GZIP_BOMB", f"the file expands to more than {MOST_BYTES:,} bytes; store it uncompressed")
    lines.add(decoder.end())
    return reader_of(key, dataset, line_bytes).read(lines.end(), last=True)[0]
