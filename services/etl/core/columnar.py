"""Parquet -> rows as text, a batch at a time."""

from collections.abc import Iterator
from datetime import time
from io import BytesIO
from pathlib import Path
from typing import Final

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.layouts import Layout, layout_of, too_many_rows
from services.etl.core.refusing import Refused
from services.etl.core.values import LINE

_BATCH: Final = 50_000
"""Rows of a batch."""
_BATCH_BYTES: Final = 8 << 20
"""Text of a batch: few bytes of a file may stand for many."""
MAX_ROW_BYTES: Final = 1 << 20
_FREE_BYTES: Final = 64 << 20
_MAX_RATIO: Final = 250
"""As of gzip files: tables shrink 3 to 50 times, nothing but repetition shrinks more than 250 times."""
_TROUBLE: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def frames_of(
    source: Path | bytes, key: str, dataset: Dataset, row_bytes: int = MAX_ROW_BYTES
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a Parquet file as LINE and text; raises Refused, or takes the process down with it."""
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    left = max(_FREE_BYTES, size * _MAX_RATIO)
    try:
        scan = pl.scan_parquet(
            source if isinstance(source, Path) else BytesIO(source), glob=False, hive_partitioning=False
        )
        schema = scan.collect_schema()
        layout = layout_of(schema.names(), key, dataset)
        texts = [_text(name, layout, dataset, schema) for name in dataset.fields]
        first = 1
        for found in scan.select(texts).collect_batches(chunk_size=_BATCH, maintain_order=True):
            if layout.is_keyless and first + found.height > 2:  # noqa: PLR2004 - one row is line 1
                raise too_many_rows(dataset)
            sizes = _row_sizes(found)
            left -= _checked_sum(sizes, first, row_bytes)
            if left < 0:
                mend = "store it as CSV"
                raise expands_too_far(f"the file expands to more than {_MAX_RATIO} times its size; {mend}")
            numbered = found.select(pl.int_range(first, first + found.height, dtype=pl.Int64).alias(LINE), pl.all())
            yield from _in_pieces(numbered, sizes)
            first += found.height
        # a reader that gives up on a damaged part only says so on its error output
        if first - 1 != scan.select(pl.len()).collect().item():
            raise no_parquet("rows are missing")
    except _TROUBLE as error:
        raise no_parquet(f"{error}".partition("\n")[0]) from None


def expands_too_far(reason: str) -> Refused:
    """Refuse a file of few bytes that stand for very many."""
    return Refused("EXPANDS_TOO_FAR", reason)


def _row_sizes(rows: pl.DataFrame) -> pl.Series:
    """Count the bytes of each row's text, and one for each cell."""
    sizes = [pl.col(name).str.len_bytes().fill_null(0).cast(pl.Int64) for name in rows.columns]
    return rows.select(pl.sum_horizontal(sizes).alias("bytes") + len(sizes))["bytes"]


def _checked_sum(sizes: pl.Series, first: int, row_bytes: int) -> int:
    place = sizes.arg_max()
    if place is not None and sizes[place] > row_bytes:
        raise expands_too_far(f"row {first + place} has more than {row_bytes:,} bytes; shorten it")
    return int(sizes.sum())


def _in_pieces(rows: pl.DataFrame, sizes: pl.Series) -> Iterator[pl.DataFrame]:
    """Cut a batch so that no piece holds much more than _BATCH_BYTES of text."""
    ends = (sizes.cum_sum() // _BATCH_BYTES).rle().struct.field("len").cum_sum() if rows.height else ()
    start = 0
    for end in ends:
        yield rows.slice(start, end - start)
        start = end


def no_parquet(what: str) -> Refused:
    """Refuse a file that cannot be read as what it says it is."""
    return Refused("NOT_PARQUET", "the file is no Parquet, or damaged; write it again", value=what)


def _text(name: str, layout: Layout, dataset: Dataset, schema: pl.Schema) -> pl.Expr:
    if name not in schema:
        is_key = name == dataset.key and layout.is_keyless
        return pl.lit(layout.item if is_key else None, dtype=pl.String).alias(name)
    kind = schema[name]
    if kind.is_nested() or kind in (pl.Binary, pl.Object):
        raise Refused("NESTED", f"column {name} holds lists, objects or bytes; write one value a row", column=name)
    wanted = dataset.columns[name].type if name in dataset.columns else "text"
    return _written(pl.col(name), kind, wanted).cast(pl.String).alias(name)


def _written(column: pl.Expr, kind: pl.DataType, wanted: str) -> pl.Expr:
    """Write a column as its value is written in a file of text; the type says more than text would."""
    if wanted == "milliseconds" and kind == pl.Date:
        return column.cast(pl.Datetime("ms")).dt.epoch("ms")
    if isinstance(kind, pl.Datetime):
        return _moment(column.dt.convert_time_zone("UTC") if kind.time_zone else column, wanted)
    if kind.is_float() and wanted in {"integer", "milliseconds"}:
        whole = column.cast(pl.Int64, strict=False)
        return pl.when(whole.cast(kind) == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))
    return column


def _moment(column: pl.Expr, wanted: str) -> pl.Expr:
    if wanted == "milliseconds":
        return column.dt.epoch("ms")
    moment = column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    is_day = column.dt.time() == time.min
    return pl.when(is_day).then(column.dt.strftime("%Y-%m-%d")).otherwise(moment) if wanted == "date" else moment
