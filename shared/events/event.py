"""What every event has: a topic, a record key, an identity, a body that is checked when it is decoded, a summary.

Events are frozen. Adding an optional field is free, for readers ignore unknown fields; any other change needs a `v2`
beside `v1`. Two events with the same `identity` are the same event: the CloudEvents id is a hash of it, so publishing
an event twice has the effect of publishing it once.
"""

import hashlib
from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared import field_rules
from shared.field_rules import DECODING, on_decode
from shared.topics import Topic

MAX_SIZE: Final = 1 << 53
"""Bytes; more than any object store takes, and exact in JSON readers that use doubles."""

BucketName = Annotated[str, on_decode(field_rules.bucket)]
Key = Annotated[str, on_decode(field_rules.key)]
Token = Annotated[str, on_decode(field_rules.token)]
ETag = Annotated[str, on_decode(field_rules.etag)]
Name = Annotated[str, on_decode(field_rules.name)]
Time = Annotated[datetime, on_decode(field_rules.time)]
Size = Annotated[int, Field(ge=0, le=MAX_SIZE)]
Severity = Literal["info", "warning", "error"]


def stable_id(*parts: object) -> str:
    """Hash `parts` to 128 bits, in hex."""
    text = "\x1f".join("" if part is None else str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Event(BaseModel):
    """A fact or a request on `topic`; `correlation_id` is created with the object that the event is about."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[Topic]
    by_topic: ClassVar[dict[str, type["Event"]]] = {}
    """All event classes that were imported, by the name of their topic."""

    correlation_id: Annotated[str, on_decode(field_rules.correlation)] = Field(
        default="", description="Follows an object through every service; 32 hex digits."
    )

    @property
    def record_key(self) -> str:
        """The Kafka key: records with one key keep their order."""
        raise NotImplementedError

    @property
    def identity(self) -> tuple[object, ...]:
        """The values that make two events the same event."""
        raise NotImplementedError

    @property
    def event_id(self) -> str:
        """The CloudEvents id, equal for equal `identity`."""
        return stable_id(type(self).topic.name, *self.identity)

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: object) -> None:
        if "topic" in vars(cls):
            cls.by_topic[cls.topic.name] = cls

    @classmethod
    def decode(cls, body: bytes | str) -> Self:
        """Parse a record's body by the rules of `shared.field_rules`; raises pydantic's ValidationError."""
        return cls.model_validate_json(body, context=DECODING)

    @classmethod
    def restore(cls, payload: object) -> Self:
        """Parse the payload of a leased work item by the same rules: an earlier release may have written it."""
        return cls.model_validate(payload, context=DECODING)

    @classmethod
    def type_name(cls) -> str:
        """The CloudEvents type."""
        return f"penstock.{cls.topic.name}"

    def caused_by(self, cause: "Event") -> Self:
        """Return a copy with the correlation id of `cause`."""
        return self.model_copy(update={"correlation_id": cause.correlation_id})

    @property
    def outcome(self) -> str:
        """What happened, in one word: the beginning of `summary()`."""
        return type(self).topic.name.split(".")[-2]

    @property
    def severity(self) -> Severity:
        """How much attention the event needs."""
        return "info"

    @property
    def detail(self) -> str:
        """The rest of `summary()`; empty if the outcome says it all."""
        return ""

    def summary(self) -> str:
        """Describe the event in one line that begins with `outcome`; the object or id that it is about is not in it."""
        return f"{self.outcome}: {self.detail}" if self.detail else self.outcome


def event_of(topic: str, body: object) -> Event | None:
    """Return the event of `topic` with this JSON body; None for an unknown topic or an invalid body."""
    kind = Event.by_topic.get(topic)
    try:
        return kind.restore(body) if kind else None
    except ValidationError:
        return None
