"""Convert rows of text to typed rows, column by column; reject what does not fit, with reasons."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Final

import polars as pl

from services.etl.core.cleaning import BLANKS
from services.etl.core.coercion import coerce_remaining, parse_timestamp
from services.etl.core.datasets import Column, Dataset
from services.etl.core.frames import text_frame
from services.etl.core.reject_reasons import (
    FALSE,
    ISO_DAY,
    MAX_KEY_BYTES,
    TRUE,
    column_bounds,
    reject_reason,
)
from services.etl.core.rejects import printable
from services.etl.core.values import LINE, MAX_WRONG_CELLS, SOURCE, CheckedRows, ParsedRows, RejectedRow
from shared.text import UNSAFE

_ISO_DAY: Final = f"^{ISO_DAY.pattern}$"


def frame_of(files: Sequence[tuple[int, ParsedRows]], dataset: Dataset) -> pl.DataFrame:
    """Combine the rows of many small files into one frame: SOURCE, LINE and the dataset's fields as text."""
    sources = [source for source, rows in files for _ in rows.lines]
    lines = [line for _, rows in files for line in rows.lines]
    values = [row for _, rows in files for row in rows.values]
    return text_frame(ParsedRows(lines, values), dataset, [(SOURCE, sources)])


def check(frame: pl.DataFrame, dataset: Dataset, *, today: date) -> CheckedRows:
    """Convert each column to its type; reject rows with wrong values, naming each wrong column.

    `frame` has LINE and the fields as text; SOURCE is optional and defaults to 0. Values are trimmed, blank values
    become null, and keys are normalized.
    """
    source = pl.col(SOURCE) if SOURCE in frame.columns else pl.lit(0, dtype=pl.Int64).alias(SOURCE)
    texts = _normalize_keys(frame.select(source, LINE, *map(_trim_column, dataset.fields)), dataset.key)
    typed = texts.select(SOURCE, LINE, dataset.key, *(_cast(name, one) for name, one in dataset.columns.items()))
    texts, typed = coerce_remaining(texts, typed, dataset)
    columns = texts.hstack([typed[name].alias(_typed_name(name)) for name in dataset.columns])
    wrong = [_wrong_key(dataset.key), *(_wrong(name, one, today) for name, one in dataset.columns.items())]
    flags_by_column = columns.select(
        one.fill_null(value=False).alias(name) for name, one in zip(dataset.fields, wrong, strict=True)
    )
    is_bad = flags_by_column.select(pl.any_horizontal(pl.all()))[dataset.key]
    if not is_bad.any():
        return CheckedRows(typed, ())
    return CheckedRows(
        typed.filter(~is_bad), _rejects(texts.filter(is_bad), flags_by_column.filter(is_bad), dataset, today)
    )


def _rejects(
    texts: pl.DataFrame, flags_by_column: pl.DataFrame, dataset: Dataset, today: date
) -> Sequence[RejectedRow]:
    rows = zip(texts.iter_rows(), flags_by_column.iter_rows(), strict=True)
    return [_reject(source, line, values, flags, dataset, today) for (source, line, *values), flags in rows]


def _reject(  # noqa: PLR0913, PLR0917 - a row and what is wrong with it
    source: int, line: int, values: Sequence[str | None], flags: Sequence[bool], dataset: Dataset, today: date
) -> RejectedRow:
    cells = zip(dataset.fields, values, flags, strict=True)
    wrong = [(name, value) for name, value, is_wrong in cells if is_wrong]
    rejects = []
    for name, value in wrong[:MAX_WRONG_CELLS]:
        code, reason = reject_reason(dataset.columns.get(name), value, today)
        rejects.append(RejectedRow(line, code, f"{name} {reason}", name, printable(value or ""), source))
    if left := wrong[MAX_WRONG_CELLS:]:
        names = printable(", ".join(name for name, _ in left))
        reason = f"{len(left)} more cells of the row are wrong: {names}; correct the ones listed first"
        rejects.append(RejectedRow(line, "MORE_CELLS", reason, source=source))
    first, *more = rejects
    return replace(first, more=tuple(more))


def _normalize_keys(texts: pl.DataFrame, key: str) -> pl.DataFrame:
    """Normalize trimmed keys as `normalize_key` does."""
    if texts[key].str.len_bytes().sum() == texts[key].str.len_chars().sum():
        return texts
    return texts.with_columns(pl.col(key).str.normalize("NFC"))


def _trim_column(name: str) -> pl.Expr:
    text = pl.col(name).str.strip_chars(BLANKS)
    return pl.when(text != "").then(text).alias(name)


def _typed_name(name: str) -> str:
    return f"{name} typed"  # unique, because column names have no blanks


def _cast(name: str, column: Column) -> pl.Expr:
    text = pl.col(name)
    if column.type in ("integer", "milliseconds"):
        return text.cast(pl.Int64, strict=False)
    if column.type == "number":
        return text.cast(pl.Float64, strict=False)
    if column.type == "boolean":
        word = text.str.to_lowercase()
        return (
            pl.when(word.is_in(TRUE))
            .then(pl.lit(value=True))
            .when(word.is_in(FALSE))
            .then(pl.lit(value=False))
            .alias(name)
        )
    if column.type == "date":
        return pl.when(text.str.contains(_ISO_DAY)).then(text.str.to_date("%Y-%m-%d", strict=False)).alias(name)
    return parse_timestamp(text).alias(name) if column.type == "timestamp" else text


def _wrong_key(name: str) -> pl.Expr:
    text = pl.col(name)
    return text.is_null() | text.str.contains(UNSAFE) | (text.str.len_bytes() > MAX_KEY_BYTES)


def _wrong(name: str, column: Column, today: date) -> pl.Expr:
    text, value = pl.col(name), pl.col(_typed_name(name))
    wrong = value.is_null() if column.required else value.is_null() & text.is_not_null()
    low, high = column_bounds(column, today)
    if column.type == "text":
        return wrong | text.str.contains("\0", literal=True) | _outside(text.str.len_chars(), low, high)
    if column.type == "number":
        return wrong | value.is_finite().not_() | _outside(value, low, high)
    return wrong | _outside(value, low, high)


def _outside(value: pl.Expr, low: object, high: object) -> pl.Expr:
    wrong = pl.lit(value=False)
    if low is not None:
        wrong |= value < low
    return wrong if high is None else wrong | (value > high)
