"""Requests for sweeps, and their results."""

from typing import Annotated, Final

from pydantic import Field

from shared import field_rules, topics
from shared.events.event import BucketName, Event, Name
from shared.field_rules import on_decode

MAX_BUCKETS: Final = 100
"""Buckets that one sweep may name."""


class SweepEvent(Event):
    """An event about one sweep."""

    sweep_id: Name

    @property
    def record_key(self) -> str:
        """The id of the sweep."""
        return self.sweep_id

    @property
    def identity(self) -> tuple[object, ...]:
        """The id of the sweep."""
        return (self.sweep_id,)


class SweepRequested(SweepEvent):
    """Compare these buckets with the recorded objects now."""

    topic = topics.SWEEPS_REQUESTED

    buckets: Annotated[tuple[BucketName, ...], Field(max_length=MAX_BUCKETS), on_decode(field_rules.distinct)] = Field(
        default=(), description="Empty: every input bucket."
    )
    prefix: Annotated[str, on_decode(field_rules.prefix)] = ""
    retell: bool = Field(
        default=False, description="Publish known objects again too, for a service that is new or has lost its rows."
    )


class SweepCompleted(SweepEvent):
    """The result of a sweep: `missed` and `vanished` count notifications that were lost or are late."""

    topic = topics.SWEEPS_COMPLETED

    buckets: tuple[str, ...]
    prefix: str = ""
    listed: int = Field(description="Objects in the listing.")
    missed: int = Field(description="Stored objects without a notification.")
    vanished: int = Field(description="Known objects that are gone from the bucket.")
    retold: int = Field(default=0, description="Known objects published again on request.")
    seconds: float

    @property
    def outcome(self) -> str:
        """`swept`."""
        return "swept"

    @property
    def detail(self) -> str:
        """The number of objects whose notifications were lost or are late."""
        return f"{self.missed} missed and {self.vanished} vanished of {self.listed}"
