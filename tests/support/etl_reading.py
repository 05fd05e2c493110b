"""A file of rows as etl understands it, whether it is read at once or as it comes."""

from datetime import date

from services.etl.adapters.small_files import read_small_file
from services.etl.core.checking import check, frame_of
from services.etl.core.datasets import Column, Dataset
from services.etl.core.frames import Batch, empty_frame
from services.etl.core.parquet import read_batches
from services.etl.core.rejects import RejectedFile
from services.etl.core.streaming import RowStream
from services.etl.core.values import CheckedRows, RejectedRow

TODAY = date(2026, 11, 21)
LAB = Dataset(
    name="lab",
    bucket="b",
    key="sample_id",
    columns={
        "label": Column(type="text"),
        "qty": Column(type="integer"),
        "depth": Column(type="number"),
        "taken_on": Column(type="date"),
        "at": Column(type="timestamp"),
        "ms": Column(type="milliseconds"),
        "ok": Column(type="boolean"),
    },
)
Understood = tuple[list[tuple[object, ...]], list[RejectedRow]]


def understood(body: bytes, key: str = "x.csv", dataset: Dataset = LAB, block_bytes: int = 1) -> Understood:
    """Return a file's rows in the order of the dataset's fields, and its rejects; both ways of reading say the same.

    Parquet is read in this process, as the one for it does.
    """
    if key.endswith(".parquet"):
        return _of_batches(_batches_of(body, key, dataset), dataset)
    rows = read_small_file(body, key, dataset, line_bytes=1 << 20)
    at_once = _found([check(frame_of([(0, rows)], dataset), dataset, today=TODAY)], list(rows.rejects), dataset)
    stream = RowStream(key, dataset, line_bytes=1 << 20, block_bytes=block_bytes)
    size = max(7, len(body) // 100)
    batches = [batch for at in range(0, len(body), size) for batch in stream.feed(body[at : at + size])] + stream.end()
    assert _of_batches(batches, dataset) == at_once
    return at_once


def values(name: str, body: bytes, key: str = "x.csv", dataset: Dataset = LAB) -> list[object]:
    """Return the values of one column of a file in which nothing is wrong."""
    rows, rejects = understood(body, key, dataset)
    assert not rejects
    index = dataset.fields.index(name)
    return [row[index] for row in rows]


def _batches_of(body: bytes, key: str, dataset: Dataset) -> list[Batch]:
    try:
        return list(read_batches(body, key, dataset))
    except RejectedFile as refused:
        return [Batch(empty_frame(dataset), [refused.reject])]


def _of_batches(batches: list[Batch], dataset: Dataset) -> Understood:
    rejects = [reject for batch in batches for reject in batch.rejects]
    return _found([check(batch.frame, dataset, today=TODAY) for batch in batches], rejects, dataset)


def _found(checked: list[CheckedRows], rejects: list[RejectedRow], dataset: Dataset) -> Understood:
    rows = [row for one in checked for row in one.good.select(dataset.fields).rows()]
    found = [*rejects, *(reject for one in checked for reject in one.rejects)]
    return rows, sorted(found, key=lambda reject: reject.line)
