"""Parquet -> rows as text, a batch at a time."""

from collections.abc import Iterator
from datetime import date, time
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.frames import Batch
from services.etl.core.layouts import Layout, layout_of, too_many_rows
from services.etl.core.refusing import Refused
from services.etl.core.values import LINE, Reject

_BATCH: Final = 50_000
"""Rows of a batch."""
_BATCH_BYTES: Final = 8 << 20
"""Text of a batch: few bytes of a file may stand for many."""
MAX_ROW_BYTES: Final = 1 << 20
_FREE_BYTES: Final = 64 << 20
_MAX_RATIO: Final = 250
"""As of gzip files: tables shrink 3 to 50 times, nothing but repetition shrinks more than 250 times."""
_FIGURES: Final = 38
"""What the reader takes of a decimal."""
_FIRST, _LAST = (date(1, 1, 1) - date(1970, 1, 1)).days, (date(9999, 12, 31) - date(1970, 1, 1)).days + 1
"""The days of all years that a table holds, the last one not among them."""
_TICKS: Final = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
"""Of a day, by unit."""
_TROUBLE: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def batches_of(source: Path | bytes, key: str, dataset: Dataset, row_bytes: int = MAX_ROW_BYTES) -> Iterator[Batch]:
    """Yield the rows of a Parquet file as LINE and text; raises Refused, or takes the process down with it."""
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    left = max(_FREE_BYTES, size * _MAX_RATIO)
    try:
        scan = _scan(source)
        schema = scan.collect_schema()
        layout = layout_of(schema.names(), key, dataset)
        texts = list(_texts(layout, dataset, schema))
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
            yield from map(_decoded, _in_pieces(numbered, sizes))
            first += found.height
        # a reader that gives up on a damaged part only says so on its error output
        if first - 1 != scan.select(pl.len()).collect().item():
            raise no_parquet("rows are missing")
    except _TROUBLE as error:
        raise no_parquet(f"{error}".partition("\n")[0]) from None


def _scan(source: Path | bytes) -> pl.LazyFrame:
    """Scan with moments in microseconds: nanoseconds end in 2262, and moments of INT96 beyond would all become that."""
    scan = _scan_as(source)
    schema = scan.collect_schema()
    if not any(isinstance(kind, pl.Datetime) and kind.time_unit == "ns" for kind in schema.dtypes()):
        return scan
    casts = pl.ScanCastOptions(datetime_cast="nanosecond-downcast")
    return _scan_as(source, schema={name: _in_micros(kind) for name, kind in schema.items()}, cast_options=casts)


def _scan_as(source: Path | bytes, **options: Any) -> pl.LazyFrame:
    file = source if isinstance(source, Path) else BytesIO(source)
    return pl.scan_parquet(file, glob=False, hive_partitioning=False, **options)


def _in_micros(kind: pl.DataType) -> pl.DataType:
    return pl.Datetime("us", kind.time_zone) if isinstance(kind, pl.Datetime) and kind.time_unit == "ns" else kind


def expands_too_far(reason: str) -> Refused:
    """Refuse a file of few bytes that stand for very many."""
    return Refused("EXPANDS_TOO_FAR", reason)


def _row_sizes(rows: pl.DataFrame) -> pl.Series:
    """Count the bytes of each row's text, and one for each cell."""
    sizes = [_size(name, kind).fill_null(0).cast(pl.Int64) for name, kind in rows.schema.items()]
    return rows.select(pl.sum_horizontal(sizes).alias("bytes") + len(sizes))["bytes"]


def _size(name: str, kind: pl.DataType) -> pl.Expr:
    return pl.col(name).bin.size() if kind == pl.Binary else pl.col(name).str.len_bytes()


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


def _decoded(rows: pl.DataFrame) -> Batch:
    """Read bytes as UTF-8, for Impala and older programs do not mark text as such; other bytes are rejects."""
    rejects: list[Reject] = []
    for name in (name for name, kind in rows.schema.items() if kind == pl.Binary):
        try:
            rows = rows.with_columns(pl.col(name).cast(pl.String))
        except pl.exceptions.PolarsError:
            texts = [_decoded_value(value) for value in rows[name]]
            rejects += [
                Reject(line, "NOT_UTF8", f"{name} holds bytes that are no UTF-8 text; write it as text", name)
                for line, text in zip(rows[LINE], texts, strict=True)
                if text is None
            ]
            is_text = pl.Series([text is not None for text in texts])
            rows = rows.with_columns(pl.Series(name, texts, dtype=pl.String)).filter(is_text)
    return Batch(rows, rejects)


def _decoded_value(value: bytes | None) -> str | None:
    try:
        return "" if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _texts(layout: Layout, dataset: Dataset, schema: pl.Schema) -> Iterator[pl.Expr]:
    names = schema.names()
    for place, name in zip(layout.places, dataset.fields, strict=True):
        if place >= len(names):
            is_item = name == dataset.key and layout.is_keyless
            yield pl.lit(layout.item if is_item else None, dtype=pl.String).alias(name)
            continue
        column, kind = pl.col(names[place]), schema[names[place]]
        wanted = dataset.columns[name].type if name in dataset.columns else "key"
        if wrong := _unreadable(kind, wanted):
            raise Refused(wrong[0], f"column {name} holds {wrong[1]}", column=name)
        text = column if kind == pl.Binary else _written(column, kind, wanted).cast(pl.String)
        yield text.alias(name)


def _unreadable(kind: pl.DataType, wanted: str) -> tuple[str, str] | None:
    """Return the code and the reason of a type that has no value to be written as text."""
    if kind.is_nested() or kind == pl.Object:
        return "NESTED", "lists or objects; write one value a row"
    if isinstance(kind, pl.Duration):
        return "DURATION", "durations; write them as numbers, such as seconds"
    if isinstance(kind, pl.Decimal) and kind.precision > _FIGURES:
        return "TOO_PRECISE", f"decimals of more than {_FIGURES} figures; write them with fewer, or as text"
    if kind == pl.Time and wanted not in {"text", "key"}:
        return "TIME_OF_DAY", "times of day; write whole moments, or declare it as text"
    return None


def _written(column: pl.Expr, kind: pl.DataType, wanted: str) -> pl.Expr:
    """Write a column as its value is written in a file of text; the type says more than text would."""
    if wanted == "milliseconds" and kind == pl.Date:
        return column.cast(pl.Datetime("ms")).dt.epoch("ms")
    if isinstance(kind, pl.Datetime):
        ticks = _TICKS[kind.time_unit]
        utc = column.dt.convert_time_zone("UTC") if kind.time_zone else column
        return (
            _moment(utc, wanted)
            if wanted == "milliseconds"
            else _within(utc, ticks, _moment(_calendar(utc, ticks), wanted))
        )
    if kind == pl.Date:
        return _within(column, 1, _calendar(column, 1).dt.strftime("%Y-%m-%d"))
    if kind.is_float():
        return _float(column.fill_nan(None), kind, wanted)
    if isinstance(kind, pl.Decimal) and wanted == "key":
        return column.cast(pl.String).str.replace(r"\.?0*$", "") if kind.scale else column
    return column


def _calendar(column: pl.Expr, ticks: int) -> pl.Expr:
    """Leave out what is not of the years 1 to 9999: to write it would end the process."""
    return pl.when(column.to_physical().cast(pl.Int64).is_between(_FIRST * ticks, _LAST * ticks, closed="left")).then(
        column
    )


def _within(column: pl.Expr, ticks: int, text: pl.Expr) -> pl.Expr:
    """Name what was left out."""
    count = column.to_physical().cast(pl.Int64)
    later = pl.when(count >= _LAST * ticks).then(pl.lit("+10000-01-01 or later"))
    return later.when(count < _FIRST * ticks).then(pl.lit("-0001-12-31 or earlier")).otherwise(text)


def _float(column: pl.Expr, kind: pl.DataType, wanted: str) -> pl.Expr:
    """Write whole numbers without a fraction where a whole number or a key is wanted."""
    if wanted not in {"integer", "milliseconds", "key"}:
        return column
    whole = column.cast(pl.Int64, strict=False)
    return pl.when(whole.cast(kind) == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))


def _moment(column: pl.Expr, wanted: str) -> pl.Expr:
    if wanted == "milliseconds":
        return column.dt.epoch("ms")
    moment = column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    is_day = column.dt.time() == time.min
    return pl.when(is_day).then(column.dt.strftime("%Y-%m-%d")).otherwise(moment) if wanted == "date" else moment
