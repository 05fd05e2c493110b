"""Convert Parquet to rows of text, batch by batch."""

from collections.abc import Iterator
from datetime import date, time
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.frames import Batch
from services.etl.core.layouts import Layout, layout_of, too_many_rows
from services.etl.core.rejects import RejectedFile
from services.etl.core.values import LINE, RejectedRow

_BATCH_ROWS: Final = 50_000
"""Maximum rows of a batch."""
_BATCH_BYTES: Final = 8 << 20
"""Maximum bytes of text in a batch, because few bytes of a file can expand to many."""
MAX_ROW_BYTES: Final = 1 << 20
_FREE_BYTES: Final = 64 << 20
_MAX_RATIO: Final = 250
"""As for gzip: tables compress 3 to 50 times; only pure repetition compresses more than 250 times."""
_MAX_DIGITS: Final = 38
"""Maximum decimal digits that polars reads."""
_FIRST_DAY, _END_DAY = (date(1, 1, 1) - date(1970, 1, 1)).days, (date(9999, 12, 31) - date(1970, 1, 1)).days + 1
"""Days since 1970 of the years 1 to 9999; the end is exclusive."""
_TICKS_PER_DAY: Final = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
"""Ticks of a day by time unit."""
_READ_ERRORS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def read_batches(source: Path | bytes, key: str, dataset: Dataset, row_bytes: int = MAX_ROW_BYTES) -> Iterator[Batch]:
    """Yield the rows of a Parquet file as LINE and text; may crash the process on damaged files.

    Raises:
        RejectedFile: the file is not Parquet, does not match the dataset, or expands too far.

    """
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    bytes_left = max(_FREE_BYTES, size * _MAX_RATIO)
    try:
        scan = _scan(source)
        schema = scan.collect_schema()
        layout = layout_of(schema.names(), key, dataset)
        texts = list(_text_columns(layout, dataset, schema))
        first = 1
        for rows in scan.select(texts).collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
            if layout.is_keyless and first + rows.height > 2:  # noqa: PLR2004 - one row is line 1
                raise too_many_rows(dataset)
            sizes = _row_sizes(rows)
            bytes_left -= _sum_checked(sizes, first, row_bytes)
            if bytes_left < 0:
                hint = "store it as CSV"
                raise expands_too_far(f"the file expands to more than {_MAX_RATIO} times its size; {hint}")
            numbered = rows.select(pl.int_range(first, first + rows.height, dtype=pl.Int64).alias(LINE), pl.all())
            yield from map(_decode_binary, _split_by_bytes(numbered, sizes))
            first += rows.height
        # polars skips damaged row groups and reports them only on stderr
        if first - 1 != scan.select(pl.len()).collect().item():
            raise not_parquet("rows are missing")
    except _READ_ERRORS as error:
        raise not_parquet(f"{error}".partition("\n")[0]) from None


def _scan(source: Path | bytes) -> pl.LazyFrame:
    """Scan timestamps as microseconds: nanoseconds end in 2262, and later INT96 values would be clipped."""
    scan = _scan_as(source)
    schema = scan.collect_schema()
    if not any(isinstance(kind, pl.Datetime) and kind.time_unit == "ns" for kind in schema.dtypes()):
        return scan
    casts = pl.ScanCastOptions(datetime_cast="nanosecond-downcast")
    return _scan_as(source, schema={name: _in_microseconds(kind) for name, kind in schema.items()}, cast_options=casts)


def _scan_as(source: Path | bytes, **options: Any) -> pl.LazyFrame:
    file = source if isinstance(source, Path) else BytesIO(source)
    return pl.scan_parquet(file, glob=False, hive_partitioning=False, **options)


def _in_microseconds(kind: pl.DataType) -> pl.DataType:
    return pl.Datetime("us", kind.time_zone) if isinstance(kind, pl.Datetime) and kind.time_unit == "ns" else kind


def expands_too_far(reason: str) -> RejectedFile:
    """Return the error for a file that expands too far."""
    return RejectedFile("EXPANDS_TOO_FAR", reason)


def _row_sizes(rows: pl.DataFrame) -> pl.Series:
    """Return the bytes of each row: its text plus one per cell."""
    sizes = [_size(name, kind).fill_null(0).cast(pl.Int64) for name, kind in rows.schema.items()]
    return rows.select(pl.sum_horizontal(sizes).alias("bytes") + len(sizes))["bytes"]


def _size(name: str, kind: pl.DataType) -> pl.Expr:
    return pl.col(name).bin.size() if kind == pl.Binary else pl.col(name).str.len_bytes()


def _sum_checked(sizes: pl.Series, first: int, row_bytes: int) -> int:
    index = sizes.arg_max()
    if index is not None and sizes[index] > row_bytes:
        raise expands_too_far(f"row {first + index} has more than {row_bytes:,} bytes; shorten it")
    return int(sizes.sum())


def _split_by_bytes(rows: pl.DataFrame, sizes: pl.Series) -> Iterator[pl.DataFrame]:
    """Split a batch into pieces of about _BATCH_BYTES of text."""
    ends = (sizes.cum_sum() // _BATCH_BYTES).rle().struct.field("len").cum_sum() if rows.height else ()
    start = 0
    for end in ends:
        yield rows.slice(start, end - start)
        start = end


def not_parquet(what: str) -> RejectedFile:
    """Return the error for a file that is not readable Parquet."""
    return RejectedFile("NOT_PARQUET", "the file is not Parquet, or is damaged; write it again", value=what)


def _decode_binary(rows: pl.DataFrame) -> Batch:
    """Decode binary columns as UTF-8, because Impala and older programs do not mark text; reject other bytes."""
    rejects: list[RejectedRow] = []
    for name in (name for name, kind in rows.schema.items() if kind == pl.Binary):
        try:
            rows = rows.with_columns(pl.col(name).cast(pl.String))
        except pl.exceptions.PolarsError:
            texts = [_decode_value(value) for value in rows[name]]
            rejects += [
                RejectedRow(line, "NOT_UTF8", f"{name} holds bytes that are not UTF-8 text; write it as text", name)
                for line, text in zip(rows[LINE], texts, strict=True)
                if text is None
            ]
            is_text_field = pl.Series([text is not None for text in texts])
            rows = rows.with_columns(pl.Series(name, texts, dtype=pl.String)).filter(is_text_field)
    return Batch(rows, rejects)


def _decode_value(value: bytes | None) -> str | None:
    try:
        return "" if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _text_columns(layout: Layout, dataset: Dataset, schema: pl.Schema) -> Iterator[pl.Expr]:
    names = schema.names()
    for index, name in zip(layout.indexes, dataset.fields, strict=True):
        if index >= len(names):
            is_item = name == dataset.key and layout.is_keyless
            yield pl.lit(layout.item if is_item else None, dtype=pl.String).alias(name)
            continue
        column, kind = pl.col(names[index]), schema[names[index]]
        target = dataset.columns[name].type if name in dataset.columns else "key"
        if wrong := _unsupported(kind, target):
            raise RejectedFile(wrong[0], f"column {name} holds {wrong[1]}", column=name)
        text = column if kind == pl.Binary else _to_text(column, kind, target).cast(pl.String)
        yield text.alias(name)


def _unsupported(kind: pl.DataType, target: str) -> tuple[str, str] | None:
    """Return code and reason for a type that has no text form, or None."""
    if kind.is_nested() or kind == pl.Object:
        return "NESTED", "lists or objects; write one value a row"
    if isinstance(kind, pl.Duration):
        return "DURATION", "durations; write them as numbers, such as seconds"
    if isinstance(kind, pl.Decimal) and kind.precision > _MAX_DIGITS:
        return "TOO_PRECISE", f"decimals of more than {_MAX_DIGITS} figures; write them with fewer, or as text"
    if kind == pl.Time and target not in {"text", "key"}:
        return "TIME_OF_DAY", "times of day; write whole moments, or declare it as text"
    return None


def _to_text(column: pl.Expr, kind: pl.DataType, target: str) -> pl.Expr:
    """Convert a column to the text that a CSV file would have for the target type."""
    if target == "milliseconds" and kind == pl.Date:
        return column.cast(pl.Datetime("ms")).dt.epoch("ms")
    if isinstance(kind, pl.Datetime):
        ticks = _TICKS_PER_DAY[kind.time_unit]
        utc = column.dt.convert_time_zone("UTC") if kind.time_zone else column
        return (
            _timestamp_text(utc, target)
            if target == "milliseconds"
            else _label_outside(utc, ticks, _timestamp_text(_in_calendar(utc, ticks), target))
        )
    if kind == pl.Date:
        return _label_outside(column, 1, _in_calendar(column, 1).dt.strftime("%Y-%m-%d"))
    if kind.is_float():
        return _float_text(column.fill_nan(None), kind, target)
    if isinstance(kind, pl.Decimal) and target == "key":
        return column.cast(pl.String).str.replace(r"\.?0*$", "") if kind.scale else column
    return column


def _in_calendar(column: pl.Expr, ticks: int) -> pl.Expr:
    """Null values outside the years 1 to 9999, which polars cannot format without a crash."""
    return pl.when(
        column.to_physical().cast(pl.Int64).is_between(_FIRST_DAY * ticks, _END_DAY * ticks, closed="left")
    ).then(column)


def _label_outside(column: pl.Expr, ticks: int, text: pl.Expr) -> pl.Expr:
    """Label values outside the years 1 to 9999."""
    count = column.to_physical().cast(pl.Int64)
    later = pl.when(count >= _END_DAY * ticks).then(pl.lit("+10000-01-01 or later"))
    return later.when(count < _FIRST_DAY * ticks).then(pl.lit("-0001-12-31 or earlier")).otherwise(text)


def _float_text(column: pl.Expr, kind: pl.DataType, target: str) -> pl.Expr:
    """Write integers without a fraction if the target is an integer or a key."""
    if target not in {"integer", "milliseconds", "key"}:
        return column
    whole = column.cast(pl.Int64, strict=False)
    return pl.when(whole.cast(kind) == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))


def _timestamp_text(column: pl.Expr, target: str) -> pl.Expr:
    if target == "milliseconds":
        return column.dt.epoch("ms")
    parse_timestamp = column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    is_day = column.dt.time() == time.min
    return (
        pl.when(is_day).then(column.dt.strftime("%Y-%m-%d")).otherwise(parse_timestamp)
        if target == "date"
        else parse_timestamp
    )
