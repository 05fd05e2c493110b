"""Names and contents of output files."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final, Literal

from services.etl.core.datasets import Dataset

Output = Literal["csv", "parquet"]
CONTENT_TYPES: Final[Mapping[Output, str]] = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
REJECT_COLUMNS: Final = ("row", "column", "value", "code", "reason")
_IMAGE: Final[Mapping[str, str]] = {
    "img_path": "text",
    "img_type": "text",
    "img_width": "integer",
    "img_height": "integer",
    "img_sha256": "text",
}
_MAX_KEY_BYTES: Final = 1024
_MAX_NAME_BYTES: Final = 255
"""Limits of an S3 key, and of its path segments in a store on a file system."""


def output_key(dataset: Dataset, output: Output) -> str:
    """Return the key of the file of a whole table."""
    return f"{dataset.output_stem}.{output}"


def rejects_key(dataset: str, key: str) -> str:
    """Return the key of the rejects file of `key`.

    Uses a digest of `key` if the name would be too long, or if a folder in it could clash with another rejects file.
    """
    name = f"rejects/{dataset}/{key}.csv"
    folders, last = PurePosixPath(name).parts[:-1], PurePosixPath(name).name
    is_plain = len(name.encode()) <= _MAX_KEY_BYTES and len(last.encode()) <= _MAX_NAME_BYTES
    if is_plain and not any(folder.endswith(".csv") for folder in folders):
        return name
    return f"rejects/{dataset}/{hashlib.sha256(key.encode()).hexdigest()}.csv"


def table_query(dataset: Dataset) -> str:
    """Return the query of a whole table in key order: raw values and image columns."""
    columns = ", ".join(f'stored."{name}"' for name in value_types(dataset))
    return f'SELECT {columns} FROM api."{dataset.name}" AS stored ORDER BY stored."{dataset.key}"'  # noqa: S608 - Dataset validated them


def value_types(dataset: Dataset) -> dict[str, str]:
    """Return the columns of `table_query` with their types."""
    return {**cell_types(dataset), **_IMAGE}


def cell_types(dataset: Dataset) -> dict[str, str]:
    """Return the key and the columns of a row with their types."""
    return {dataset.key: "text", **{name: column.type for name, column in dataset.columns.items()}}


def schema_fingerprint(dataset: Dataset) -> bytes:
    """Return bytes that identify the file layout: the same rows and fingerprint give the same file."""
    return json.dumps(value_types(dataset)).encode()


def rejects_file(rows: Iterable[tuple[object, ...]]) -> bytes:
    """Write rejected rows, in the order of REJECT_COLUMNS, as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(REJECT_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()
