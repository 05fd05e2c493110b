"""The facts and requests on the bus, each declared once and bound to its topic.

Events are frozen. Adding an optional field is free, for readers ignore unknown fields; any other change needs a `v2`
beside `v1`. Two events with the same `identity` are the same event: the CloudEvents id is a hash of it, so publishing
an event twice has the effect of publishing it once.
"""

import hashlib
from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared import field_rules, topics
from shared.field_rules import DECODING, on_decode
from shared.topics import Topic

MAX_BUCKETS: Final = 100
"""Buckets that one sweep may name."""
MAX_SIZE: Final = 1 << 53
"""Bytes; more than any object store takes, and exact in JSON readers that use doubles."""

BucketName = Annotated[str, on_decode(field_rules.bucket)]
Key = Annotated[str, on_decode(field_rules.key)]
Token = Annotated[str, on_decode(field_rules.token)]
ETag = Annotated[str, on_decode(field_rules.etag)]
Name = Annotated[str, on_decode(field_rules.name)]
Time = Annotated[datetime, on_decode(field_rules.time)]
Metadata = Annotated[dict[str, str], on_decode(field_rules.metadata)]
Digests = Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=64)]
Size = Annotated[int, Field(ge=0, le=MAX_SIZE)]


def stable_id(*parts: object) -> str:
    """Hash `parts` to 128 bits, in hex."""
    text = "\x1f".join("" if part is None else str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Event(BaseModel):
    """A fact or a request on `topic`; `correlation_id` is created with the object that the event is about."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[Topic]

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


class ObjectEvent(Event):
    """An event about one object."""

    bucket: BucketName
    key: Key
    version_id: Token | None = Field(default=None, description="None in a bucket without versioning.")
    etag: ETag | None = Field(default=None, description="Without quotes; None when removed.")
    size: Size | None = Field(default=None, description="Bytes; None when removed.")

    @property
    def record_key(self) -> str:
        """`bucket/key`, the key that MinIO gives its own records."""
        return f"{self.bucket}/{self.key}"


class ObjectChanged(ObjectEvent):
    """An object was stored or removed. One topic holds both, because order per object matters."""

    topic = topics.OBJECTS_CHANGED

    change: Literal["stored", "removed"]
    content_type: Annotated[str, on_decode(field_rules.text)] | None = None
    metadata: Metadata = Field(
        default_factory=dict,
        description="The uploader's own metadata, names in lower case without `x-amz-meta-`.",
    )
    sequencer: Annotated[str, on_decode(field_rules.sequencer)] | None = Field(
        default=None, description="MinIO's or S3's own order of one key's events, hex."
    )
    revision: int = Field(
        default=0,
        ge=0,
        description="Orders the changes of one key: microseconds of the database clock at which it became known.",
    )
    seen_by: Literal["live", "safe", "sweep"] = "live"
    occurred_at: Time | None = Field(default=None, description="UTC, by the object store's clock.")

    @property
    def identity(self) -> tuple[object, ...]:
        """The stored version or the removal, without `seen_by`."""
        return (
            self.bucket,
            self.key,
            self.change,
            self.version_id,
            self.etag,
            self.sequencer,
            self.correlation_id,
        )


class ObjectHashed(ObjectEvent):
    """A stored version has its digests."""

    topic = topics.OBJECTS_HASHED

    digests: Digests = Field(description="Hex digest by algorithm, such as md5, sha256, blake3.")
    verification: Literal["verified", "mismatch"] | None = Field(
        default=None,
        description="The digests against what the uploader declared; None when nothing was declared.",
    )
    mismatched: tuple[Name, ...] = Field(
        default=(), max_length=64, description="The algorithms whose declared digest differs."
    )
    revision: int = Field(default=0, ge=0, description="The revision of the change that was hashed.")

    @property
    def identity(self) -> tuple[object, ...]:
        """The version and its set of algorithms: further digests make another fact.

        Without the revision: a change that is published again after a crash may get another one.
        """
        return (
            self.bucket,
            self.key,
            self.version_id,
            self.etag,
            self.size,
            *sorted(self.digests),
            self.correlation_id,
        )


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


EVENTS: tuple[type[Event], ...] = (
    ObjectChanged,
    ObjectHashed,
    SweepRequested,
    SweepCompleted,
    EtlRequested,
    EtlLoaded,
    EtlCompleted,
    DeadLetterSettled,
)
