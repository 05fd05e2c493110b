"""What etl's parts hand to each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import polars as pl

from services.etl.core.datasets import Dataset, ObjectKind

SOURCE: Final = "source"
LINE: Final = "line"
"""Columns that a frame of rows carries beside its dataset's: which file, by position or id, and which line of it."""

MAX_WRONG_CELLS: Final = 20
"""Of one row, each with its reason; of more than these the names are told."""
MAX_VALUE_CHARACTERS: Final = 200
"""How much of a rejected value is kept."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is no row, or a whole file (line 0), with the first thing that is wrong.

    What else is wrong with the same row is in `more`: each counts as a part of this one.
    """

    line: int
    code: str
    reason: str
    column: str = ""
    value: str = ""
    source: int = 0
    more: tuple["RejectedRow", ...] = ()


@dataclass(frozen=True, slots=True)
class FileToLoad:
    """An object that may differ from what is known of it.

    Revision 0: found by a listing, and so with the etag and the time that it had there; without: it was not there.
    """

    bucket: str
    key: str
    dataset: Dataset
    kind: ObjectKind
    revision: int = 0
    correlation_id: str = ""
    size: int | None = None
    etag: str | None = None
    stored_at: datetime | None = None

    @property
    def object_key(self) -> tuple[str, str]:
        """Where it is."""
        return (self.bucket, self.key)


@dataclass(frozen=True, slots=True)
class KnownObject:
    """What the tables know of an object; the default: nothing."""

    id: int = 0
    fence: int = 0
    revision: int = 0
    etag: str | None = None
    size: int | None = None
    stored_at: datetime | None = None
    rows: int = 0
    rejected: int = 0
    reason: str = ""
    correlation_id: str = ""
    failure: str = ""
    """Why the last load of it failed; the other fields are those of the load before."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the first bytes of an image say."""

    content_type: str
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class ParsedRows:
    """What a small file holds, not yet checked: values as text, in the order of `dataset.fields`, None where absent."""

    lines: Sequence[int] = ()
    values: Sequence[tuple[str | None, ...]] = ()
    rejects: Sequence[RejectedRow] = ()


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """An object as the bucket had it when somebody looked; `etag` None: it was not there."""

    file: FileToLoad
    known: KnownObject
    etag: str | None = None
    size: int | None = None
    stored_at: datetime | None = None
    image: ImageInfo | None = None
    rows: ParsedRows = field(default_factory=ParsedRows)
    rejects: Sequence[RejectedRow] = ()


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Rows that fit their table, typed, with SOURCE and LINE; and those that do not."""

    good: pl.DataFrame
    rejects: Sequence[RejectedRow]
