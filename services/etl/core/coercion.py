"""Second pass over texts that a plain cast did not accept: convert numbers and dates by their value."""

from datetime import time
from typing import Final

import polars as pl

from services.etl.core.cleaning import parse_whole
from services.etl.core.datasets import ColumnType, Dataset
from services.etl.core.reject_reasons import ISO_TIMESTAMP

_INT64: Final = 1 << 63
_BOOLEANS: Final[dict[int | None, bool]] = {0: False, 1: True}
_WHOLE_WITH_FRACTION: Final = r"^([+-]?[0-9]+)\.0*$"
_NAN: Final = "(?i)^[+-]?nan$"
_ISO_TIMESTAMP: Final = f"^{ISO_TIMESTAMP.pattern}$"


def coerce_remaining(texts: pl.DataFrame, typed: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Fill in values that a cast missed: `7.00` and `1e3` are integers, `1.0` is true, NaN is missing.

    Columns without missing values stay as they are.
    """
    for name, column in dataset.columns.items():
        text, value = texts[name], typed[name]
        if column.type != "text" and (value.null_count() > text.null_count() or _has_nan(value)):
            text, value = _coerce_column(text, value, column.type)
            texts, typed = texts.with_columns(text), typed.with_columns(value)
    return texts, typed


def parse_timestamp(text: pl.Expr) -> pl.Expr:
    """Parse ISO 8601 as a UTC timestamp; null for anything else."""
    groups = text.str.extract_groups(_ISO_TIMESTAMP).struct
    day = groups.field("day").str.to_date("%Y-%m-%d", strict=False)

    def number(name: str) -> pl.Expr:
        return groups.field(name).cast(pl.Int64, strict=False).fill_null(0)

    fraction = groups.field("part").fill_null("").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64)
    since_midnight = number("hour") * 3600 + number("minute") * 60 + number("second")
    east = number("hours") * 3600 + number("minutes") * 60 + number("seconds")
    offset = pl.when(groups.field("sign") == "-").then(-east).otherwise(east)
    micros = (since_midnight - offset) * 1_000_000 + fraction
    return (day.cast(pl.Datetime("us")) + pl.duration(microseconds=micros)).dt.replace_time_zone("UTC")


def _has_nan(value: pl.Series) -> bool:
    return value.dtype == pl.Float64 and bool(value.is_nan().any())


def _coerce_column(text: pl.Series, value: pl.Series, kind: ColumnType) -> tuple[pl.Series, pl.Series]:
    is_missing = text.str.contains(_NAN)
    if is_missing.any():
        text, value = (
            pl.select(pl.when(is_missing).then(None).otherwise(one).alias(one.name)).to_series()
            for one in (text, value)
        )
    indexes = (value.is_null() & text.is_not_null()).arg_true()
    found = _parse_words(text.gather(indexes), kind)
    return text, value if found is None else value.scatter(indexes, found)


def _parse_words(words: pl.Series, kind: ColumnType) -> pl.Series | None:
    if kind in {"integer", "milliseconds"}:
        simple = words.str.replace(_WHOLE_WITH_FRACTION, "$1").cast(pl.Int64, strict=False)
        wholes = [_int64(word) if known is None else known for word, known in zip(words, simple, strict=True)]
        return pl.Series(wholes, dtype=pl.Int64)
    if kind == "boolean":
        return pl.Series([_BOOLEANS.get(parse_whole(word)) for word in words], dtype=pl.Boolean)
    if kind == "date":
        at = words.to_frame("text").select(parse_timestamp(pl.col("text")).alias("at"))
        return at.select(pl.when(pl.col("at").dt.time() == time.min).then(pl.col("at").dt.date()))["at"]
    return None


def _int64(word: str) -> int | None:
    whole = parse_whole(word)
    return whole if whole is not None and -_INT64 <= whole < _INT64 else None
