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
_TROUBLE: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def frames_of(source: Path | bytes, key: str, dataset: Dataset) -> Iterator[pl.DataFrame]:
    """Yield the rows of a Parquet file as LINE and text; raises Refused, or takes the process down with it."""
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
            yield found.select(pl.int_range(first, first + found.height, dtype=pl.Int64).alias(LINE), pl.all())
            first += found.height
        # a reader that gives up on a damaged part only says so on its error output
        if first - 1 != scan.select(pl.len()).collect().item():
            raise no_parquet("rows are missing")
    except _TROUBLE as error:
        raise no_parquet(f"{error}".partition("\n")[0]) from None


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
