"""Convert CSV that Postgres wrote to typed Parquet in bounded memory.

Importing polars costs about 40 MiB: services that seldom write Parquet import this module late.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import polars as pl

ROWS_IN_GROUP: Final = 65_536
"""Rows per row group: readers and this writer hold one group in memory."""
CHUNK_BYTES: Final = 1 << 20
"""Bytes of CSV that polars reads at a time; its default of 16 MiB takes three times as much memory."""
_TIMESTAMP: Final = "%Y-%m-%d %H:%M:%S%.f%#z"


def csv_to_parquet(source: Path, target: Path, types: Mapping[str, str]) -> None:
    """Convert the CSV at `source` to Parquet at `target`, keeping the order of columns.

    `source` is the output of `COPY ... TO STDOUT (FORMAT csv, HEADER)`: an empty field is null, `""` is empty text.
    `types` maps each column to text, integer, number, boolean, date, timestamp or milliseconds. Blocks: run it in a
    thread. A CSV without rows becomes a Parquet file without rows.
    """
    typed = scan_csv(source, types).select(_typed(name, kind) for name, kind in types.items())
    typed.sink_parquet(target, row_group_size=ROWS_IN_GROUP, engine="streaming")


def scan_csv(source: Path, columns: Iterable[str]) -> pl.LazyFrame:
    """Scan such a CSV lazily, with every column as text."""
    # polars reads it at each scan and has no other way to set it (polars 2.1, polars-config)
    os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", str(CHUNK_BYTES))
    return pl.scan_csv(source, schema=dict.fromkeys(columns, pl.String()), infer_schema=False, glob=False)


def _typed(name: str, kind: str) -> pl.Expr:
    """Cast a text column to `kind`; text that is not of this type is an error."""
    column = pl.col(name)
    match kind:
        case "integer" | "milliseconds":
            return column.cast(pl.Int64)
        case "number":
            return column.cast(pl.Float64)
        case "boolean":
            return column == "t"
        case "date":
            return column.str.to_date("%Y-%m-%d")
        case "timestamp":
            return column.str.to_datetime(_TIMESTAMP, time_unit="us", time_zone="UTC")
        case _:
            return column
