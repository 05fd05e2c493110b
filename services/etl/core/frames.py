"""Frames of rows as text."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.values import LINE, ParsedRows, RejectedRow


@dataclass(frozen=True, slots=True)
class Batch:
    """Unchecked rows of a large file: LINE and the dataset's fields as text.

    A reject of line 0 rejects the whole file: it is in the last batch, and no row of the file is loaded.
    """

    frame: pl.DataFrame
    rejects: list[RejectedRow]


def empty_frame(dataset: Dataset) -> pl.DataFrame:
    """Return a frame without rows, with the columns of a batch."""
    return pl.DataFrame(schema={LINE: pl.Int64, **dict.fromkeys(dataset.fields, pl.String)})


def text_frame(rows: ParsedRows, dataset: Dataset, numbers: Sequence[tuple[str, Sequence[int]]] = ()) -> pl.DataFrame:
    """Convert parsed rows to a frame, after extra columns of integers."""
    columns = zip(*rows.values, strict=True) if rows.values else ((),) * len(dataset.fields)
    numbered = [pl.Series(name, values, dtype=pl.Int64) for name, values in (*numbers, (LINE, rows.lines))]
    texts = [pl.Series(name, values, dtype=pl.String) for name, values in zip(dataset.fields, columns, strict=True)]
    return pl.DataFrame([*numbered, *texts])
