"""What was done with a dead letter."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from shared import topics
from shared.events.event import Event


class DeadLetterSettled(Event):
    """A dead letter was replayed to its topic or discarded."""

    topic = topics.DEAD_LETTERS_SETTLED

    dlq_topic: str = Field(description="The topic of the dead letter.")
    partition: int
    offset: int
    action: Literal["replayed", "discarded"]
    at: datetime = Field(description="UTC, by the clock of the program that replayed or discarded it.")

    @property
    def record_key(self) -> str:
        """The position of the dead letter; compaction keeps the newest record for it."""
        return f"{self.dlq_topic}/{self.partition}/{self.offset}"

    @property
    def identity(self) -> tuple[object, ...]:
        """The position of the dead letter: a repeated action is the same event."""
        return (self.dlq_topic, self.partition, self.offset)

    @property
    def outcome(self) -> str:
        """`replayed` or `discarded`."""
        return self.action

    @property
    def detail(self) -> str:
        """The topic of the dead letter."""
        return f"dead letter of {self.dlq_topic}"
