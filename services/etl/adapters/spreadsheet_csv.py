"""A table as a file that people open: cells of text, none of which a spreadsheet would run."""

import hashlib
from pathlib import Path

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.exporting import cell_types, value_types
from services.etl.core.spreadsheet_escape import escape_column
from shared.parquet import scan_csv


def write_spreadsheet_csv(values: Path, target: Path, dataset: Dataset) -> str:
    """Write the columns of the contract, in its order, of the CSV at `values`; return the file's SHA-256.

    Blocks for as long as it takes, in bounded memory, as `csv_to_parquet` does.
    """
    rows = scan_csv(values, value_types(dataset))
    cells = [escape_column(name) if kind == "text" else pl.col(name) for name, kind in cell_types(dataset).items()]
    image = pl.when(pl.col("img_path") != "").then(pl.col("img_path"))
    rows.select(*cells, image).sink_csv(target, engine="streaming")
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
