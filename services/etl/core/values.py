"""Value types that the modules of etl exchange."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import polars as pl

from services.etl.core.datasets import Dataset, ObjectKind

SOURCE: Final = "source"
LINE: Final = "line"
"""Extra columns of a frame of rows: the file, by position or id, and the line in it."""

MAX_WRONG_CELLS: Final = 20
"""Wrong cells of a row reported with a reason; further ones are only named."""
MAX_VALUE_CHARACTERS: Final = 200
"""How much of a rejected value is stored."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A rejected row, or a rejected file (line 0), with its first error.

    `more` has the other errors of the same row, which do not count as further rows.
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
    """An object that may differ from its known state.

    Revision 0: found by a listing, with the listed etag and time; without an etag, the object was not listed.
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
        """Bucket and key."""
        return (self.bucket, self.key)


@dataclass(frozen=True, slots=True)
class KnownObject:
    """The state of an object in `etl.sources`; the defaults mean that it is unknown."""

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
    """Why the last load failed; the other fields describe the load before."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Type and size of an image."""

    content_type: str
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class ParsedRows:
    """Unchecked rows of a small file: values as text in the order of `dataset.fields`, None where absent."""

    lines: Sequence[int] = ()
    values: Sequence[tuple[str | None, ...]] = ()
    rejects: Sequence[RejectedRow] = ()


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """An object as fetched from the bucket; `etag` is None if it did not exist."""

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
    """Typed rows that fit their table, with SOURCE and LINE, and the rejected rows."""

    good: pl.DataFrame
    rejects: Sequence[RejectedRow]
