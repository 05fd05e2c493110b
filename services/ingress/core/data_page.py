"""A table as a page shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

from services.ingress.core.datasets import IMAGE_COLUMN, Dataset
from services.ingress.core.filters import RowQuery

MAX_TEXT: Final = 1000
"""Characters of a value on a page; /data returns the whole value."""
_MILLISECONDS: Final = 1000
_LABELS: Final = {"birthts": "Born"}


@dataclass(frozen=True, slots=True)
class DataPage:
    """A dataset, the query for its rows, and the names of all datasets."""

    dataset: Dataset
    query: RowQuery
    names: Sequence[str]

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """The columns beside key and image, each with its heading."""
        return tuple((name, _LABELS.get(name, column_title(name))) for name in self.dataset.columns)

    @property
    def parameters(self) -> dict[str, Any]:
        """The query parameters of the current rows."""
        parameters_set = self.query.model_dump(include={"is_image_exists", "min_age", "max_age", "contains", "dataset"})
        return {name: value for name, value in parameters_set.items() if value not in {None, ""}}

    def address(self, path: str, **more: str) -> str:
        """Return the address of the same rows at `path`."""
        return f"{path}?{urlencode({**self.parameters, **more})}"

    def kind(self, name: str) -> str:
        """Return the CSS class of a column: numbers align by digits; the date of birth gives way to the age."""
        if name == self.dataset.born:
            return "born"
        return "number" if self.dataset.columns[name].type in {"integer", "number"} else "words"

    def text(self, row: Mapping[str, Any], name: str) -> str:
        """Return a value as people read it; a moment in milliseconds is a day."""
        value = row[name]
        if value is None:
            return ""
        if self.dataset.columns[name].type == "milliseconds":
            return day_of(value)
        if isinstance(value, datetime):
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"

    def image(self, row: Mapping[str, Any]) -> str:
        """Return the URL of a row's image; empty without an image."""
        return f"/objects/{quote(row[IMAGE_COLUMN])}" if row[IMAGE_COLUMN] else ""


@dataclass(frozen=True, slots=True)
class LoadRow:
    """A load as a page shows it."""

    load_id: str
    state: str
    requested_at: datetime | None
    why: str = ""
    listed: int = 0
    changed: int = 0
    removed: int = 0
    rejected: int = 0
    seconds: float | None = None
    error: str | None = None
    progress: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return a load from its JSON form."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__ if name in row})

    @property
    def is_done(self) -> bool:
        """Return whether the load has finished."""
        return self.state in {"succeeded", "failed"}

    @property
    def percent(self) -> float | None:
        """How much of what differs is read; None: not known."""
        return round(100 * self.progress["done"], 1) if self.progress and "done" in self.progress else None


def column_title(name: str) -> str:
    """Return the name of a column as a heading."""
    return name.replace("_", " ").capitalize()


def day_of(milliseconds: int) -> str:
    """Return the day, in UTC, of a moment in milliseconds since 1970; one that no calendar has is its number."""
    try:
        return f"{datetime.fromtimestamp(milliseconds / _MILLISECONDS, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
