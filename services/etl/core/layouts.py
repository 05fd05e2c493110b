"""Map the cells of a line to the columns of a dataset."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from services.etl.core.cleaning import normalize_key
from services.etl.core.datasets import PUBLISHED_COLUMNS, Dataset, item_of
from services.etl.core.rejects import RejectedFile, printable

Row = tuple[str | None, ...]
_MAX_COLUMNS: Final = 2000


@dataclass(frozen=True, slots=True)
class Layout:
    """The parsed header: `indexes` has the cell of each field; `width` if absent, `width` + 1 for the file name."""

    width: int
    indexes: tuple[int, ...]
    item: str
    pick: Callable[[list[str | None]], Row]
    trailing_unnamed: int = 0
    """Number of unnamed cells at the end of the header; cells below them must be blank or absent."""

    @property
    def is_keyless(self) -> bool:
        """Return whether the key comes from the file name, so that the file has one row."""
        return self.indexes[0] > self.width

    def row(self, cells: list[str | None]) -> Row:
        """Return cells in the order of the dataset's fields; modifies `cells`."""
        cells.append(None)
        cells.append(self.item)
        return self.pick(cells)


def layout_of(header: Sequence[str], key: str, dataset: Dataset) -> Layout:
    """Match a header with a dataset's columns; raise RejectedFile if they do not fit."""
    if len(header) > _MAX_COLUMNS:
        raise RejectedFile(
            "TOO_MANY_COLUMNS", f"{len(header):,} columns; split the file so that none has {_MAX_COLUMNS:,}"
        )
    names, trailing_unnamed = _column_names(header)
    if any("\0" in name for name in names):
        raise RejectedFile(
            "NUL", "the header holds NUL bytes; store the file as UTF-8, or as UTF-16 with a byte order mark"
        )
    require_columns(names, dataset)
    _reject_extra(names, dataset)
    _reject_repeated(names, dataset)
    width = len(names)
    cells = {name: index for index, name in enumerate(names)}
    first = cells.get(dataset.key, width + 1)
    indexes = (first, *(cells.get(name, width) for name in dataset.columns))
    return Layout(width, indexes, item_of(key), itemgetter(*indexes), trailing_unnamed)


def count_known_names(header: Sequence[str], dataset: Dataset) -> int:
    """Count the names of a header that equal or resemble a column of the dataset."""
    fields = {_simplified(name) for name in dataset.fields}
    return len({_simplified(name) for name in header} & fields)


def _column_names(header: Sequence[str]) -> tuple[list[str], int]:
    """Return the column names, and the number of unnamed cells after the last one."""
    names = [normalize_key(name) for name in header]
    named = list(names)
    while len(named) > 1 and not named[-1]:
        named.pop()
    return named, len(names) - len(named)


def require_columns(names: Sequence[str], dataset: Dataset) -> None:
    """Raise RejectedFile if a required column is missing; suggest a similar name."""
    for name, column in dataset.columns.items():
        if column.required and name not in names:
            similar = next(
                (one for one in names if one not in dataset.fields and _simplified(one) == _simplified(name)), None
            )
            hint = (
                f"there is {printable(similar)}: rename it"
                if similar
                else f"the header needs {', '.join(dataset.columns)}"
            )
            raise RejectedFile("MISSING_COLUMN", f"no column {name}; {hint}", column=name)


def extra_column_reason(name: str, dataset: Dataset) -> str:
    """Return the reason for rejecting an unknown column."""
    similar = next((one for one in dataset.fields if _simplified(one) == _simplified(name)), None)
    if not name:
        return "a column has no name; name it or take it out"
    if similar:
        return f"column {printable(name)} is unknown; rename it to {similar}"
    return f"column {printable(name)} is unknown; take it out, or declare it in the dataset {dataset.name}"


def is_extra(name: str, dataset: Dataset) -> bool:
    """Return whether a column is neither declared nor one that output files add."""
    return name not in dataset.fields and name not in PUBLISHED_COLUMNS


def too_many_rows(dataset: Dataset) -> RejectedFile:
    """Return the error for a file of several rows without a key column."""
    hint = f"add a column {dataset.key}, or put each row into a file named after its {dataset.key}"
    return RejectedFile("NO_KEY", f"several rows but no column {dataset.key}; {hint}", column=dataset.key)


def _reject_extra(names: Sequence[str], dataset: Dataset) -> None:
    extra = [name for name in names if is_extra(name, dataset)]
    if extra and dataset.extra_columns == "reject":
        raise RejectedFile(
            "EXTRA_COLUMN", extra_column_reason(extra[0], dataset), column=printable(extra[0]), value=extra[0]
        )


def _reject_repeated(names: Sequence[str], dataset: Dataset) -> None:
    for name, count in Counter(names).items():
        if count > 1 and name in dataset.fields:
            hint = "keep one of them"
            raise RejectedFile("DUPLICATE_COLUMN", f"column {name} is there {count} times; {hint}", column=name)


def _simplified(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()
