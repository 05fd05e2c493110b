"""Parquet out of a file of CSV that Postgres wrote, typed, in bounded memory.

Importing polars costs about 40 MiB: a service that writes Parquet rarely imports this late.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import polars as pl

ROWS_IN_GROUP: Final = 65_536
"""Rows that a reader of the file has to hold at a time, and so has its writer."""
CHUNK_BYTES: Final = 1 << 20
"""What polars takes of the CSV at a time: by its own choice of 16 MiB it holds three times as much memory."""
_TIMESTAMP: Final = "%Y-%m-%d %H:%M:%S%.f%#z"


def csv_to_parquet(source: Path, target: Path, types: Mapping[str, str]) -> None:
    """Write the CSV at `source` as Parquet to `target`, its columns in the order of the header.

    `source` is what `COPY ... TO STDOUT (FORMAT csv, HEADER)` writes: nothing is null, `""` is an empty text. `types`
    gives each column its type by the names of a dataset's columns: text, integer, number, boolean, date, timestamp or
    milliseconds. Blocks for as long as it takes: run it in a thread. A file without rows gives one without rows.
    """
    typed = scan_csv(source, types).select(_typed(name, kind) for name, kind in types.items())
    typed.sink_parquet(target, row_group_size=ROWS_IN_GROUP, engine="streaming")


def scan_csv(source: Path, columns: Iterable[str]) -> pl.LazyFrame:
    """Read such a file as text, a little at a time."""
    # read anew at each scan; there is no other way to say it (polars 2.1, polars-config)
    os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", str(CHUNK_BYTES))
    return pl.scan_csv(source, schema=dict.fromkeys(columns, pl.String()), infer_schema=False, glob=False)


def _typed(name: str, kind: str) -> pl.Expr:
    """Turn a column of text into what it says; text that says something else is an error."""
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
