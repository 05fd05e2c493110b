"""Datasets as a TOML file declares them: which objects belong to them, and the columns of their rows."""

import re
import tomllib
from collections.abc import Container, Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from services.etl.core.cleaning import normalize_key
from shared.errors import PenstockError
from shared.text import visible

ObjectKind = Literal["rows", "image"]
ColumnType = Literal["text", "integer", "number", "boolean", "date", "timestamp", "milliseconds"]
MAX_NAME_CHARACTERS: Final = 41
"""Maximum characters of a name: with prefixes and suffixes it stays below the 63 bytes of Postgres."""


def _validate_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > MAX_NAME_CHARACTERS:
        cleaned = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")[:MAX_NAME_CHARACTERS]
        suggestion = cleaned if cleaned[:1].isalpha() else f"name_{cleaned}"[:MAX_NAME_CHARACTERS].rstrip("_")
        msg = (
            f"the name {visible(name, 80)!r} is not allowed: write lower-case letters, digits and underscores, "
            f"a letter first, {MAX_NAME_CHARACTERS} at most, such as {suggestion}"
        )
        raise ValueError(msg)
    return name


Name = Annotated[str, AfterValidator(_validate_name)]

FORMATS: Final[Mapping[str, str]] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
}
"""Row formats by file extension; `.gz` may follow any of them except Parquet."""

_OWN_TABLES: Final = frozenset(
    {"datasets", "sources", "images", "rejects", "exports", "loads", "migrations", "refused"}
)
PUBLISHED_COLUMNS: Final = frozenset(
    {"img_path", "img_type", "img_width", "img_height", "img_sha256", "source", "loaded_at"}
)
"""Columns that views and output files add to a dataset's own; ignored in input files."""
_ADDED_COLUMNS: Final = PUBLISHED_COLUMNS | {"source_id", "line"}
"""Columns that each table or view has in addition to the declared ones."""
_SYSTEM_COLUMNS: Final = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
"""System columns of Postgres, the only column names that it reserves."""


_BOUNDS: Final[Mapping[str, tuple[type, ...]]] = {
    "boolean": (),
    "date": (date,),
    "timestamp": (date,),
    "milliseconds": (date,),
}


class InvalidDatasets(PenstockError):  # noqa: N818 - errors here are named after what is wrong
    """The dataset file cannot be used."""


class Column(BaseModel):
    """A column of a table; `min` and `max` are inclusive bounds of values, dates or text lengths.

    `max = "today"` means the day on which the row is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ColumnType
    required: bool = False
    min: int | float | date | None = None
    max: int | float | date | Literal["today"] | None = None

    @model_validator(mode="after")
    def _validate_bounds(self) -> "Column":
        allowed = _BOUNDS.get(self.type, (int, float))
        bounds = [one for one in (self.min, date.max if self.max == "today" else self.max) if one is not None]
        if not all(isinstance(one, allowed) for one in bounds):
            expected = {"boolean": "none"}.get(self.type, "days, such as 2000-02-29" if date in allowed else "figures")
            msg = f"the bounds of a column of type {self.type} are {expected}"
            raise ValueError(msg)
        if len(bounds) > 1 and bounds[0] > bounds[1]:  # type: ignore[operator]
            msg = f"min = {self.min} is above max = {self.max}; nothing would fit"
            raise ValueError(msg)
        return self


class Dataset(BaseModel):
    """A table of the files and images under one prefix of a bucket."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    bucket: str
    prefix: str = ""
    key: Name
    columns: dict[Name, Column] = Field(min_length=1)
    images: tuple[Annotated[str, StringConstraints(to_lower=True)], ...] = ()
    output: str = ""
    born: str = Field(default="", description="The column of type milliseconds that ages are counted from.")
    extra_columns: Literal["reject", "ignore"] = "reject"

    @model_validator(mode="after")
    def _validate_names(self) -> "Dataset":
        if self.name in _OWN_TABLES:
            raise ValueError(_reserved(self.name))
        self._reject_taken_names()
        if self.born and (self.born not in self.columns or self.columns[self.born].type != "milliseconds"):
            msg = f"born = {self.born!r} is not a column of type milliseconds"
            raise ValueError(msg)
        return self

    def _reject_taken_names(self) -> None:
        names = {self.key, *self.columns}
        if taken := _ADDED_COLUMNS & names:
            msg = f"column {min(taken)} is added to every table; leave it out, or call it something else"
            raise ValueError(msg)
        if taken := _SYSTEM_COLUMNS & names:
            name = min(taken)
            msg = f"column {name} is one that Postgres keeps for itself; call it something else, such as {name}_value"
            raise ValueError(msg)
        if self.key in self.columns:
            msg = f"column {self.key} is the key; leave it out of the columns"
            raise ValueError(msg)

    @property
    def fields(self) -> tuple[str, ...]:
        """The key and the columns of a row."""
        return (self.key, *self.columns)

    @property
    def output_stem(self) -> str:
        """Key of the output files without extension."""
        return self.output or self.name

    def kind_of(self, bucket: str, key: str) -> ObjectKind | None:
        """Return whether an object is rows or an image of this dataset; None if it belongs to neither."""
        if bucket != self.bucket or not key.startswith(self.prefix):
            return None
        if format_of(key):
            return "rows"
        return "image" if _ending(key) in self.images else None


def item_of(key: str) -> str:
    """Return the row key that a file name stands for: the name without its extension, such as `.png` or `.csv.gz`."""
    name = key.rpartition("/")[2]
    stem = name.rpartition(".")[0]
    return normalize_key(stem.rpartition(".")[0] if _ending(name) == "gz" else stem)


def format_of(key: str) -> str:
    """Return the row format of a file name; empty if it has none."""
    name = key.rpartition("/")[2]
    if _ending(name) == "gz":
        inner = FORMATS.get(_ending(name[:-3]), "")
        return "" if inner == "parquet" else inner
    return FORMATS.get(_ending(name), "")


def is_compressed(key: str) -> bool:
    """Return whether a name ends in .gz."""
    return _ending(key) == "gz"


def _ending(name: str) -> str:
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return ending.lower() if stem and dot else ""


class Datasets:
    """The datasets of one file by name, and the reasons for refused ones."""

    def __init__(self, datasets: Mapping[str, Dataset], refused: Mapping[str, str] | None = None) -> None:
        self.by_name = dict(datasets)
        self.refused = dict(refused or {})

    @classmethod
    def parse(cls, text: str, where: str = "datasets", reserved: Container[str] = ()) -> "Datasets":
        """Parse the text of a dataset file; refuse single invalid sections, and those with a `reserved` name.

        Raises:
            InvalidDatasets: no section is valid; says section, reason and fix.

        """
        try:
            sections: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidDatasets(f"{where} is not TOML: {error}") from None
        datasets = cls({})
        for name, section in sections.items():
            try:
                datasets._add(_parse_section(name, section, reserved))
            except InvalidDatasets as error:
                datasets.refuse(name, f"{where}: {error}")
        if not sections:
            raise InvalidDatasets(f"{where} declares no dataset; begin one with [name]")
        datasets.require_any()
        return datasets

    def _add(self, dataset: Dataset) -> None:
        for other in self.by_name.values():
            _reject_overlap(other, dataset)
        self.by_name[dataset.name] = dataset

    def refuse(self, name: str, reason: str) -> None:
        """Remove a dataset and record the reason."""
        self.by_name.pop(name, None)
        self.refused[name] = reason

    def require_any(self) -> None:
        """Raise InvalidDatasets with the reasons if no dataset is left."""
        if not self.by_name:
            raise InvalidDatasets("; ".join(self.refused.values()))

    def claim(self, bucket: str, key: str) -> tuple[Dataset, ObjectKind] | None:
        """Return the dataset of an object and its kind; None if no dataset claims it."""
        for dataset in self.by_name.values():
            if kind := dataset.kind_of(bucket, key):
                return dataset, kind
        return None


def _reserved(name: str) -> str:
    return f"{name} is the name of a table or view of Penstock's own; call the dataset something else"


def _parse_section(name: str, section: object, reserved: Container[str]) -> Dataset:
    if not isinstance(section, dict):
        raise InvalidDatasets(f"{visible(name)} stands outside a section; begin one with [name]")
    if name in reserved:
        raise InvalidDatasets(f"[{name}] {_reserved(name)}")
    try:
        return Dataset.model_validate({**section, "name": name})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(visible(str(part)) for part in first["loc"] if part != "[key]")
        raise InvalidDatasets(f"[{visible(name)}] {field}: {first['msg'].removeprefix('Value error, ')}") from None


def _reject_overlap(other: Dataset, one: Dataset) -> None:
    """Raise InvalidDatasets if `one` claims the same keys or output as `other`, which is earlier in the file."""
    nested = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    if one.bucket == other.bucket and nested:
        both = f"{one.bucket}/{max(one.prefix, other.prefix)}"
        raise InvalidDatasets(f"[{other.name}] and [{one.name}] both claim {both}; set prefixes apart")
    if one.output_stem == other.output_stem:
        raise InvalidDatasets(f"[{other.name}] and [{one.name}] both write {one.output_stem}; change one output")
