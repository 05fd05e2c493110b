"""Query parameters for the rows of a dataset, with error texts that show the right form."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.functional_validators import BeforeValidator
from pydantic_core import PydanticCustomError

from services.ingress.core.datasets import MAX_NAME, USERS, Dataset
from shared.errors import Rejected

MAX_AGE: Final = 200
"""No age is greater."""
NO_AGE: Final = -1
"""Stands for `35.0`, `35.5` and `-1` as a bound: the former API answered those with an empty object."""
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_DIGITS: Final = 9
MAX_SHOWN: Final = 40
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}

Format = Literal["json", "csv", "parquet"]
TYPES: Final[dict[Format, str]] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


def _flag(value: Any) -> Any:
    """Parse True, false, 1 or 0, in any case; empty means not set."""
    if not isinstance(value, str):
        return value
    if (text := value.strip().lower()) and text not in _FLAGS:
        raise _wrong(value, "is neither true nor false: send True, False, 1 or 0, or leave it out")
    return _FLAGS[text] if text else None


def _age(value: Any) -> Any:
    """Parse whole years; empty means not set, other numbers match no age."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text and not _NUMBER.fullmatch(text):
        raise _wrong(value, "is no age: send whole years, such as 35, or leave it out")
    if text.isdigit():
        return min(int(text), MAX_AGE + 1) if len(text) <= _DIGITS else MAX_AGE + 1
    return NO_AGE if text else None


def _wrong(value: str, why: str) -> PydanticCustomError:
    return PydanticCustomError("wrong_value", "{value} {why}", {"value": repr(value[:MAX_SHOWN]), "why": why})


def _named(value: Any) -> Any:
    return value or USERS


Flag = Annotated[bool | None, BeforeValidator(_flag)]
Age = Annotated[int | None, BeforeValidator(_age)]
DatasetName = Annotated[str, BeforeValidator(_named), Field(pattern=r"^[^\x00]*$")]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]


class Filters(BaseModel):
    """Conditions on rows; all must hold, and bounds are inclusive."""

    model_config = ConfigDict(frozen=True)

    is_image_exists: Flag = Field(
        None, description="True: rows with an image alone. False: rows without. Left out: all of them."
    )
    min_age: Age = Field(
        None,
        description="The least age, in whole calendar years by UTC; it is included. Nobody has any other number.",
    )
    max_age: Age = Field(None, description="The greatest age, likewise; below the least one nobody is left.")
    contains: Text = Field(
        "", max_length=200, description="Text that the key or a column of text holds, whatever the case."
    )
    dataset: DatasetName = Field(
        USERS, max_length=MAX_NAME, description="Which table, as the file of datasets names it."
    )

    @property
    def match_nothing(self) -> bool:
        """Return whether the bounds match no age."""
        return NO_AGE in {self.min_age, self.max_age} or (
            self.min_age is not None and self.max_age is not None and self.min_age > self.max_age
        )

    @property
    def is_filtered(self) -> bool:
        """Return whether any filter is set."""
        return bool(self.contains) or {self.is_image_exists, self.min_age, self.max_age} != {None}

    def require_ages(self, dataset: Dataset) -> None:
        """Refuse age filters if the dataset has no birth column.

        Raises Rejected: NO_AGES.
        """
        if not dataset.born and (self.min_age is not None or self.max_age is not None):
            raise Rejected(
                "NO_AGES",
                f"the dataset {dataset.name} declares no column that ages are counted from (born): "
                "leave min_age and max_age out",
            )


class Page(BaseModel):
    """One page of rows, ordered by the UTF-8 bytes of their keys."""

    model_config = ConfigDict(frozen=True)

    limit: int | None = Field(
        None, ge=1, le=1_000_000, description="Rows at most; the header Link leads to the next ones. Left out: all."
    )
    after: Text = Field("", max_length=2000, description="The key after which to begin, as the Link says it.")


class RowQuery(Filters, Page):
    """Filters, page and format of rows."""

    format: Format | None = Field(
        None, description="json, csv or parquet; left out, the header Accept says which, and JSON is the usual one."
    )


def negotiate_format(requested: Format | None, accept: str) -> Format:
    """Return the requested format, or the first supported one in Accept."""
    if requested is not None:
        return requested
    kinds = [one.partition(";")[0].strip().lower() for one in accept.split(",")]
    ours: dict[str, Format] = {text.partition(";")[0]: name for name, text in TYPES.items()}
    return next((ours[kind] for kind in kinds if kind in ours), "json")
