"""What the files in the output bucket are called, and what stands in them."""

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
"""The longest key that S3 takes, and the longest part of one that a store on a file system does."""


def output_key(dataset: Dataset, output: Output) -> str:
    """Name the file that holds a whole table."""
    return f"{dataset.output_stem}.{output}"


def rejects_key(dataset: str, key: str) -> str:
    """Name the file that says what is wrong with `key`: after it, or after its digest where a store might not take it.

    A key that is too long with what is added, or that lies in a folder of a name such as another one's file may have.
    """
    name = f"rejects/{dataset}/{key}.csv"
    folders, last = PurePosixPath(name).parts[:-1], PurePosixPath(name).name
    is_plain = len(name.encode()) <= _MAX_KEY_BYTES and len(last.encode()) <= _MAX_NAME_BYTES
    if is_plain and not any(folder.endswith(".csv") for folder in folders):
        return name
    return f"rejects/{dataset}/{hashlib.sha256(key.encode()).hexdigest()}.csv"


def table_query(dataset: Dataset) -> str:
    """Ask for a table in the order of its keys: the values as they are, and what is known of images."""
    columns = ", ".join(f'kept."{name}"' for name in value_types(dataset))
    return f'SELECT {columns} FROM api."{dataset.name}" AS kept ORDER BY kept."{dataset.key}"'  # noqa: S608 - Dataset checked them


def value_types(dataset: Dataset) -> dict[str, str]:
    """Name the columns of `values_query`, each with its type."""
    return {**cell_types(dataset), **_IMAGE}


def cell_types(dataset: Dataset) -> dict[str, str]:
    """Name the columns of a row, each with its type."""
    return {dataset.key: "text", **{name: column.type for name, column in dataset.columns.items()}}


def schema_fingerprint(dataset: Dataset) -> bytes:
    """Say how a file is made of rows: of the same rows and the same recipe comes the same file."""
    return json.dumps(value_types(dataset)).encode()


def rejects_file(rows: Iterable[tuple[object, ...]]) -> bytes:
    """Write rejected rows, in the order of REJECT_COLUMNS, as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(REJECT_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()
