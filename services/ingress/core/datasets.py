"""Datasets as declared to etl: their columns and who may read them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from services.ingress.core.access import Principal

USERS: Final = "users"
"""The dataset that is meant where none is named."""
IMAGE_COLUMN: Final = "img_path"
MAX_NAME: Final = 41

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
"""A name that is safe as a quoted SQL identifier."""
ColumnType = Literal["text", "integer", "number", "boolean", "date", "timestamp", "milliseconds"]


class Column(BaseModel):
    """The part of a column's declaration that readers need."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ColumnType


class Dataset(BaseModel):
    """A table that follows the files below `prefix` in `bucket`; `born` is the column that ages are counted from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Name
    bucket: str
    prefix: str = ""
    key: Name
    columns: Mapping[Name, Column]
    images: tuple[str, ...] = ()
    born: Name | Literal[""] = ""

    @property
    def types(self) -> dict[str, ColumnType]:
        """The columns in order, each with its type: the key, the declared ones, and the image."""
        return {self.key: "text", **{name: column.type for name, column in self.columns.items()}, IMAGE_COLUMN: "text"}

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that text is looked for in."""
        return (self.key, *(name for name, column in self.columns.items() if column.type == "text"))

    def is_visible_to(self, principal: Principal) -> bool:
        """Return whether `principal` may see every file of the dataset; a part of a table is never shown."""
        return principal.sees(self.bucket, self.prefix)


def parse_dataset(definition: Mapping[str, Any], order: Sequence[str]) -> Dataset:
    """Return the dataset from its definition, with the column order of its view, since jsonb has no order.

    Raises pydantic's ValidationError for an invalid definition.
    """
    dataset = Dataset.model_validate(definition)
    columns = {name: dataset.columns[name] for name in order if name in dataset.columns}
    return dataset.model_copy(update={"columns": columns})
