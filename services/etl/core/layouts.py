"""Which cell of a line is which column of a dataset."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from services.etl.core.cleaning import key_of
from services.etl.core.datasets import PUBLISHED, Dataset, item_of
from services.etl.core.refusing import Refused, shown

Row = tuple[str | None, ...]
_MOST_COLUMNS: Final = 2000


@dataclass(frozen=True, slots=True)
class Layout:
    """The header, understood: `places` has the cell of each field; `width`: it is absent; `width` + 1: the name's."""

    width: int
    places: tuple[int, ...]
    item: str
    pick: Callable[[list[str | None]], Row]
    unnamed: int = 0
    """Separators at the end of the header with no name between them: cells there are blank, or absent."""

    @property
    def is_keyless(self) -> bool:
        """Say whether the file's name is the key of its one row."""
        return self.places[0] > self.width

    def row(self, cells: list[str | None]) -> Row:
        """Put cells in the order of the dataset's fields; `cells` is used up."""
        cells.append(None)
        cells.append(self.item)
        return self.pick(cells)


def layout_of(header: Sequence[str], key: str, dataset: Dataset) -> Layout:
    """Match a header with a dataset's columns; raises Refused when they do not fit."""
    if len(header) > _MOST_COLUMNS:
        raise Refused("TOO_MANY_COLUMNS", f"{len(header):,} columns; split the file so that none has {_MOST_COLUMNS:,}")
    names, unnamed = _named(header)
    if any("\0" in name for name in names):
        raise Refused("NUL", "the header holds NUL bytes; store the file as UTF-8, or as UTF-16 with a byte order mark")
    refuse_missing(names, dataset)
    _refuse_extra(names, dataset)
    _refuse_twice(names, dataset)
    width = len(names)
    cells = {name: place for place, name in enumerate(names)}
    first = cells.get(dataset.key, width + 1)
    places = (first, *(cells.get(name, width) for name in dataset.columns))
    return Layout(width, places, item_of(key), itemgetter(*places), unnamed)


def known_names(header: Sequence[str], dataset: Dataset) -> int:
    """Count the names of a header that the dataset knows, or that come near one."""
    fields = {_bare(name) for name in dataset.fields}
    return len({_bare(name) for name in header} & fields)


def _named(header: Sequence[str]) -> tuple[list[str], int]:
    """Return the names of columns, and how many separators follow the last one."""
    names = [key_of(name) for name in header]
    named = list(names)
    while len(named) > 1 and not named[-1]:
        named.pop()
    return named, len(names) - len(named)


def refuse_missing(names: Sequence[str], dataset: Dataset) -> None:
    """Raise Refused when a required column is absent, naming what comes near it."""
    for name, column in dataset.columns.items():
        if column.required and name not in names:
            near = next((one for one in names if one not in dataset.fields and _bare(one) == _bare(name)), None)
            mend = f"there is {shown(near)}: rename it" if near else f"the header needs {', '.join(dataset.columns)}"
            raise Refused("MISSING_COLUMN", f"no column {name}; {mend}", column=name)


def extra_column(name: str, dataset: Dataset) -> str:
    """Say why a column that the dataset does not know is refused."""
    near = next((one for one in dataset.fields if _bare(one) == _bare(name)), None)
    if not name:
        return "a column has no name; name it or take it out"
    if near:
        return f"column {shown(name)} is unknown; rename it to {near}"
    return f"column {shown(name)} is unknown; take it out, or declare it in the dataset {dataset.name}"


def is_extra(name: str, dataset: Dataset) -> bool:
    """Say whether a column is neither the dataset's nor one that its published files have beside them."""
    return name not in dataset.fields and name not in PUBLISHED


def too_many_rows(dataset: Dataset) -> Refused:
    """Refuse a file of several rows that does not say whose they are."""
    mend = f"add a column {dataset.key}, or put each row into a file named after its {dataset.key}"
    return Refused("NO_KEY", f"several rows but no column {dataset.key}; {mend}", column=dataset.key)


def _refuse_extra(names: Sequence[str], dataset: Dataset) -> None:
    extra = [name for name in names if is_extra(name, dataset)]
    if extra and dataset.extra_columns == "reject":
        raise Refused("EXTRA_COLUMN", extra_column(extra[0], dataset), column=shown(extra[0]), value=extra[0])


def _refuse_twice(names: Sequence[str], dataset: Dataset) -> None:
    for name, count in Counter(names).items():
        if count > 1 and name in dataset.fields:
            mend = "keep one of them"
            raise Refused("DUPLICATE_COLUMN", f"column {name} is there {count} times; {mend}", column=name)


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()
