"""Parse small files as a whole."""

import zlib
from typing import Final

from services.etl.adapters.parquet_process import parquet_rows
from services.etl.core.datasets import Dataset, format_of, is_compressed
from services.etl.core.decoding import Decoder, LineBuffer, is_gzip
from services.etl.core.readers import reader_for
from services.etl.core.rejects import RejectedFile
from services.etl.core.values import ParsedRows

MAX_EXPANDED_BYTES: Final = 32 << 20
"""Maximum expanded size of a small file."""


def read_small_file(body: bytes, key: str, dataset: Dataset, *, line_bytes: int) -> ParsedRows:
    """Parse a whole file; errors become rejects, whatever the bytes.

    A reject of line 0 rejects the whole file: it is the only one, and there are no rows.
    """
    try:
        if format_of(key) == "parquet":
            return parquet_rows(body, key, dataset)
        return _read_lines(body, key, dataset, line_bytes)
    except RejectedFile as rejected:
        return ParsedRows(rejects=(rejected.reject,))


def is_small(body: bytes, key: str, max_bytes: int) -> bool:
    """Return whether a file has at most `max_bytes` after decompression.

    A damaged file counts as small, and `read_small_file` rejects it.
    """
    if format_of(key) == "parquet" or len(body) > max_bytes:
        return False
    if not is_compressed(key) and not is_gzip(body):
        return True
    try:
        decoder, size = Decoder(compressed=True), 0
        for text in decoder.feed(body):
            size += len(text)
            if size > max_bytes:
                return False
        return size + len(decoder.end()) <= max_bytes
    except (RejectedFile, zlib.error):
        return True


def _read_lines(body: bytes, key: str, dataset: Dataset, line_bytes: int) -> ParsedRows:
    decoder = Decoder(compressed=is_compressed(key))
    lines = LineBuffer(line_bytes)
    for text in decoder.feed(body):
        lines.add(text)
        if lines.size > MAX_EXPANDED_BYTES:
            raise RejectedFile(
                "GZIP_BOMB", f"the file expands to more than {MAX_EXPANDED_BYTES:,} bytes; store it uncompressed"
            )
    lines.add(decoder.end())
    return reader_for(key, dataset, line_bytes).read(lines.end(), last=True)[0]
