"""A table as a file that people open: cells of text, none of which a spreadsheet would run."""

import hashlib
from pathlib import Path

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.exporting import cells_types, values_types
from services.etl.core.formulas import escaped
from shared.parquet import scan_csv


def write_cells(values: Path, target: Path, dataset: Dataset) -> str:
    """Write the columns of the contract, in its order, of the CSV at `values`; return the file's SHA-256.

    Blocks for as long as it takes, in bounded memory, as `csv_to_parquet` does.
    """
    rows = scan_csv(values, values_types(dataset))
    cells = [escaped(name) if kind == "text" else pl.col(name) for name, kind in cells_types(dataset).items()]
    image = pl.when(pl.col("img_path") != "").then(pl.col("img_path"))
    rows.select(*cells, image).sink_csv(target, engine="streaming")
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
