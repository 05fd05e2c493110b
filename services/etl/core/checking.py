"""Rows of text -> rows of their types, column by column; what does not fit is told with its reason."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Final

import polars as pl

from services.etl.core.by_value import completed, moment
from services.etl.core.cleaning import BLANKS
from services.etl.core.datasets import Column, Dataset
from services.etl.core.explaining import (
    FALSE,
    ISO_DAY,
    KEY_BYTES,
    TRUE,
    bounds_of,
    trouble_of,
)
from services.etl.core.frames import text_frame
from services.etl.core.refusing import shown
from services.etl.core.values import LINE, MAX_WRONG_CELLS, SOURCE, Checked, Reject, Rows
from shared.text import UNSAFE

_ISO_DAY: Final = f"^{ISO_DAY.pattern}$"


def frame_of(files: Sequence[tuple[int, Rows]], dataset: Dataset) -> pl.DataFrame:
    """Put the rows of many small files into one frame: SOURCE, LINE and the dataset's fields as text."""
    sources = [source for source, rows in files for _ in rows.lines]
    lines = [line for _, rows in files for line in rows.lines]
    values = [row for _, rows in files for row in rows.values]
    return text_frame(Rows(lines, values), dataset, [(SOURCE, sources)])


def check(frame: pl.DataFrame, dataset: Dataset, *, today: date) -> Checked:
    """Give each column its type; a row in which values do not fit is a reject, with each such column.

    `frame` has LINE and the fields as text, and SOURCE or not (then it is 0). Blanks around values go; a value of
    blanks alone is none, and keys have one spelling.
    """
    source = pl.col(SOURCE) if SOURCE in frame.columns else pl.lit(0, dtype=pl.Int64).alias(SOURCE)
    texts = _with_one_spelling(frame.select(source, LINE, *map(_trimmed, dataset.fields)), dataset.key)
    typed = texts.select(SOURCE, LINE, dataset.key, *(_typed(name, one) for name, one in dataset.columns.items()))
    texts, typed = completed(texts, typed, dataset)
    beside = texts.hstack([typed[name].alias(_beside(name)) for name in dataset.columns])
    wrong = [_wrong_key(dataset.key), *(_wrong(name, one, today) for name, one in dataset.columns.items())]
    found = beside.select(
        one.fill_null(value=False).alias(name) for name, one in zip(dataset.fields, wrong, strict=True)
    )
    is_bad = found.select(pl.any_horizontal(pl.all()))[dataset.key]
    if not is_bad.any():
        return Checked(typed, ())
    return Checked(typed.filter(~is_bad), _rejects(texts.filter(is_bad), found.filter(is_bad), dataset, today))


def _rejects(texts: pl.DataFrame, found: pl.DataFrame, dataset: Dataset, today: date) -> Sequence[Reject]:
    rows = zip(texts.iter_rows(), found.iter_rows(), strict=True)
    return [_reject(source, line, values, flags, dataset, today) for (source, line, *values), flags in rows]


def _reject(  # noqa: PLR0913, PLR0917 - a row and what is wrong with it
    source: int, line: int, values: Sequence[str | None], flags: Sequence[bool], dataset: Dataset, today: date
) -> Reject:
    cells = zip(dataset.fields, values, flags, strict=True)
    wrong = [(name, value) for name, value, is_wrong in cells if is_wrong]
    rejects = []
    for name, value in wrong[:MAX_WRONG_CELLS]:
        code, reason = trouble_of(dataset.columns.get(name), value, today)
        rejects.append(Reject(line, code, f"{name} {reason}", name, shown(value or ""), source))
    if left := wrong[MAX_WRONG_CELLS:]:
        names = shown(", ".join(name for name, _ in left))
        reason = f"{len(left)} more cells of the row are wrong: {names}; correct those that are told first"
        rejects.append(Reject(line, "MORE_CELLS", reason, source=source))
    first, *more = rejects
    return replace(first, more=tuple(more))


def _with_one_spelling(texts: pl.DataFrame, key: str) -> pl.DataFrame:
    """Do as `key_of` does with keys, whose blanks are gone."""
    if texts[key].str.len_bytes().sum() == texts[key].str.len_chars().sum():
        return texts
    return texts.with_columns(pl.col(key).str.normalize("NFC"))


def _trimmed(name: str) -> pl.Expr:
    text = pl.col(name).str.strip_chars(BLANKS)
    return pl.when(text != "").then(text).alias(name)


def _beside(name: str) -> str:
    return f"{name} typed"  # a name has no blanks, so this is nobody's


def _typed(name: str, column: Column) -> pl.Expr:
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
    return moment(text).alias(name) if column.type == "timestamp" else text


def _wrong_key(name: str) -> pl.Expr:
    text = pl.col(name)
    return text.is_null() | text.str.contains(UNSAFE) | (text.str.len_bytes() > KEY_BYTES)


def _wrong(name: str, column: Column, today: date) -> pl.Expr:
    text, value = pl.col(name), pl.col(_beside(name))
    wrong = value.is_null() if column.required else value.is_null() & text.is_not_null()
    low, high = bounds_of(column, today)
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
