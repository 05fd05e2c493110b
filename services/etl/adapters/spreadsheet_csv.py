"""Write a table as CSV for spreadsheets, with formulas escaped."""

import hashlib
from pathlib import Path

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.exporting import cell_types, value_types
from services.etl.core.spreadsheet_escape import escape_column
from shared.parquet import scan_csv


def write_spreadsheet_csv(values: Path, target: Path, dataset: Dataset) -> str:
    """Write the key, the columns and `img_path` of the CSV at `values`, escaped; return the SHA-256 of the file.

    Blocks until done, in bounded memory.
    """
    rows = scan_csv(values, value_types(dataset))
    cells = [escape_column(name) if kind == "text" else pl.col(name) for name, kind in cell_types(dataset).items()]
    image = pl.when(pl.col("img_path") != "").then(pl.col("img_path"))
    rows.select(*cells, image).sink_csv(target, engine="streaming")
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
