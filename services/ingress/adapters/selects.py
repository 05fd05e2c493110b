"""SQL queries on a dataset's view; outside values are arguments, names come from a Dataset.

Every declared column is qualified with the alias `stored`, so that it cannot clash with other names of a statement.
"""

from dataclasses import dataclass, field
from typing import Final

from services.ingress.core.ages import SPAN_YEARS
from services.ingress.core.datasets import IMAGE_COLUMN, USERS, ColumnType, Dataset
from services.ingress.core.filters import Filters, RowQuery

AGE: Final = "@age"
"""What no column can be called."""
_ESCAPED: Final = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


@dataclass(slots=True)
class Select:
    """A statement under construction; arguments are numbered in order."""

    text: str
    arguments: list[object] = field(default_factory=list)

    def add_condition(self, condition: str, *arguments: object) -> None:
        """Add a condition; each `{}` in it is the next argument."""
        numbers = range(len(self.arguments) + 1, len(self.arguments) + len(arguments) + 1)
        joint = " and " if " where " in self.text else " where "
        self.text += joint + condition.format(*(f"${number}" for number in numbers))
        self.arguments.extend(arguments)


def rows_as_json(dataset: Dataset, query: RowQuery, until: str | None) -> Select:
    """Ask for each row as the text of one member of a JSON object, a comma before it."""
    members = "||".join(
        f"'{',' if number else '{'}\"{name}\":'||coalesce(to_json({_json_column(dataset, name)})::text,'null')"
        for number, name in enumerate(name for name in dataset.types if name != dataset.key)
    )
    columns = f"','||to_json(stored.\"{dataset.key}\")::text||':'||{members}||'}}'"
    return _bounded(dataset, _from(columns, dataset, query), query, until)


def rows_as_cells(dataset: Dataset, query: RowQuery, until: str | None, *, is_escaped: bool) -> Select:
    """Select the columns; with `is_escaped`, text cells cannot run as spreadsheet formulas."""
    columns = ", ".join(_cell(name, kind) if is_escaped else f'stored."{name}"' for name, kind in dataset.types.items())
    return _bounded(dataset, _from(columns, dataset, query), query, until)


def rows_for_page(dataset: Dataset, query: RowQuery) -> Select:
    """Select the rows of one page with all values that the page shows."""
    columns = ", ".join((*(f'stored."{name}"' for name in dataset.types), f'{_age(dataset)} as "{AGE}"'))
    return _limited(dataset, _from(columns, dataset, query), query)


def last_key_of(dataset: Dataset, query: RowQuery) -> Select:
    """Ask for the page's last key, and whether more follow it."""
    keys = _limited(dataset, _from(f'stored."{dataset.key}" as key', dataset, query), query)
    numbered = f"select key, row_number() over () as number, count(*) over () as found from ({keys.text}) as keys"  # noqa: S608
    return Select(
        f"select key, found > {query.limit} as has_more from ({numbered}) as keys "  # noqa: S608
        f"where number = least(found, {query.limit})",
        keys.arguments,
    )


def age_spans(dataset: Dataset, filters: Filters) -> Select:
    """Ask for rows, images and ages by spans of years; `offset 0` has each age counted once."""
    chosen = _from(f"stored.{IMAGE_COLUMN} <> '' as has_image, {_age(dataset)} as age", dataset, filters)
    return Select(
        f"select age / {SPAN_YEARS} * {SPAN_YEARS} as start, count(*) as rows, "  # noqa: S608
        f"count(*) filter (where has_image) as with_image, "
        f"coalesce(sum(age), 0)::bigint as years, min(age) as youngest, max(age) as oldest "
        f"from ({chosen.text} offset 0) as chosen group by 1 order by 1",
        chosen.arguments,
    )


def _from(columns: str, dataset: Dataset, filters: Filters) -> Select:
    made = Select(f'select {columns} from api."{dataset.name}" as stored')  # noqa: S608
    if filters.is_image_exists is not None:
        made.add_condition(f"stored.{IMAGE_COLUMN} <> ''" if filters.is_image_exists else f"stored.{IMAGE_COLUMN} = ''")
    if filters.match_nothing:
        made.add_condition("false")
        return made
    if filters.min_age is not None:
        made.add_condition(f"{_age(dataset)} >= {{}}::integer", filters.min_age)
    if filters.max_age is not None:
        made.add_condition(f"{_age(dataset)} <= {{}}::integer", filters.max_age)
    if filters.contains:
        pattern = f"%{filters.contains.translate(_ESCAPED)}%"
        any_of = " or ".join(f'stored."{name}" collate "default" ilike {{0}}::text' for name in dataset.texts)
        made.add_condition(f"({any_of})", pattern)
    return made


def _bounded(dataset: Dataset, made: Select, query: RowQuery, until: str | None) -> Select:
    if query.after:
        made.add_condition(f'stored."{dataset.key}" > {{}}::text', query.after)
    if until is not None:
        made.add_condition(f'stored."{dataset.key}" <= {{}}::text', until)
    # by the stored column: an escaped cell has the same name and sorts differently
    made.text += f' order by stored."{dataset.key}"'
    return made


def _limited(dataset: Dataset, made: Select, query: RowQuery) -> Select:
    """Select one row more than the page has, which shows whether there is a next page."""
    _bounded(dataset, made, query, None)
    made.text += f" limit {(query.limit or 0) + 1}"
    return made


def _json_column(dataset: Dataset, name: str) -> str:
    """Return the column as rendered in JSON; the birth timestamp of users is text, as in the former API."""
    column = dataset.columns.get(name) if dataset.name == USERS and name == dataset.born else None
    return f'stored."{name}"::text' if column and column.type == "milliseconds" else f'stored."{name}"'


def _age(dataset: Dataset) -> str:
    return f'api.age(stored."{dataset.born}")' if dataset.born else "null::integer"


def _cell(name: str, kind: ColumnType) -> str:
    return f'api.cell(stored."{name}") as "{name}"' if kind == "text" else f'stored."{name}"'
