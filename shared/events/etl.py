"""Requests for loads of datasets, and what became of files and loads."""

from typing import Literal

from pydantic import Field

from shared import topics
from shared.events.event import Event, Name, Severity
from shared.events.objects import ObjectEvent


class EtlRequested(Event):
    """Load a dataset now: compare its bucket with its table and load the objects that differ."""

    topic = topics.ETL_REQUESTED

    load_id: Name
    dataset: Name = Field(default="users", description="A name from the file of datasets.")

    @property
    def record_key(self) -> str:
        """The name of the dataset."""
        return self.dataset

    @property
    def identity(self) -> tuple[object, ...]:
        """The id of the load, and the dataset."""
        return (self.load_id, self.dataset)


class EtlCompleted(EtlRequested):
    """The result of a load; the counts of a failed one cover the work until it failed."""

    topic = topics.ETL_COMPLETED

    listed: int = Field(description="Files and images in the listing.")
    changed: int = Field(description="Listed objects that were read; the others had a known etag.")
    removed: int = Field(description="Known objects that are gone from the bucket.")
    rows: int = Field(description="Good rows in the files that were read.")
    rejected: int = Field(description="Rejected rows in these files.")
    outputs: tuple[str, ...] = Field(description="Objects with the exported table, as bucket/key.")
    seconds: float
    state: Literal["succeeded", "failed"] = "succeeded"
    error: str = Field(default="", description="Why the load failed.")

    @property
    def outcome(self) -> str:
        """`compared` or `failed`."""
        return "compared" if self.state == "succeeded" else "failed"

    @property
    def severity(self) -> Severity:
        """An error if the load failed."""
        return "info" if self.state == "succeeded" else "error"

    @property
    def detail(self) -> str:
        """The number of objects and rows, or the reason of the failure."""
        if self.state == "failed":
            return self.error
        objects = f"{self.changed} changed and {self.removed} removed of {self.listed}"
        return f"{objects}, {_rows(self.rows, self.rejected)}"


class EtlLoaded(ObjectEvent):
    """The table of a dataset reflects one stored or removed object."""

    topic = topics.ETL_LOADED

    dataset: str
    kind: Literal["rows", "image"]
    change: Literal["stored", "removed"]
    rows: int = 0
    rejected: int = 0
    reason: str = Field(default="", description="Why the first rejected row, or the whole file, was rejected.")
    error: str = Field(default="", description="Why the object could not be loaded; the table keeps its earlier rows.")

    @property
    def identity(self) -> tuple[object, ...]:
        """The version that was read, and the result."""
        return (
            self.bucket,
            self.key,
            self.dataset,
            self.change,
            self.version_id,
            self.etag,
            self.rows,
            self.rejected,
            self.correlation_id,
            *((self.error,) if self.error else ()),
        )

    @property
    def outcome(self) -> str:
        """`loaded` or `failed`."""
        return "failed" if self.error else "loaded"

    @property
    def severity(self) -> Severity:
        """An error if the object could not be loaded, a warning if rows or the whole file were rejected."""
        return "error" if self.error else "warning" if self.rejected or self.reason else "info"

    @property
    def detail(self) -> str:
        """The rows of the object and its rejected rows, with the first reason."""
        if self.error:
            return self.error
        rows = f", {_rows(self.rows, self.rejected)}" if self.kind == "rows" and self.change == "stored" else ""
        return f"{self.kind} of {self.dataset} {self.change}{rows}" + (f": {self.reason}" if self.reason else "")


def _rows(rows: int, rejected: int) -> str:
    counted = f"{rows:,} row{'' if rows == 1 else 's'}"
    return counted + (f", {rejected:,} rejected" if rejected else "")
