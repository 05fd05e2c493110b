"""Rows as columns of text."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.values import LINE, ParsedRows, RejectedRow


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a large file, not yet checked: LINE and the dataset's fields, all of them text.

    A reject of line 0 is of the file as a whole: it is the last that is told of the file, and none of the rows counts.
    """

    frame: pl.DataFrame
    rejects: list[RejectedRow]


def empty_frame(dataset: Dataset) -> pl.DataFrame:
    """Return a frame without rows."""
    return pl.DataFrame(schema={LINE: pl.Int64, **dict.fromkeys(dataset.fields, pl.String)})


def text_frame(rows: ParsedRows, dataset: Dataset, numbers: Sequence[tuple[str, Sequence[int]]] = ()) -> pl.DataFrame:
    """Make a frame of rows as they were read, after more columns of numbers."""
    columns = zip(*rows.values, strict=True) if rows.values else ((),) * len(dataset.fields)
    numbered = [pl.Series(name, values, dtype=pl.Int64) for name, values in (*numbers, (LINE, rows.lines))]
    texts = [pl.Series(name, values, dtype=pl.String) for name, values in zip(dataset.fields, columns, strict=True)]
    return pl.DataFrame([*numbered, *texts])
