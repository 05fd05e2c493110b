"""Facts about objects."""

from typing import Annotated, Literal

from pydantic import Field

from shared import field_rules, topics
from shared.events.event import BucketName, ETag, Event, Key, Name, Severity, Size, Time, Token
from shared.field_rules import on_decode

Metadata = Annotated[dict[str, str], on_decode(field_rules.metadata)]
Digests = Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=64)]


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

    @property
    def outcome(self) -> str:
        """`stored` or `removed`."""
        return self.change

    @property
    def detail(self) -> str:
        """The size, and the sweep if no notification brought the change."""
        size = f"{self.size:,} bytes" if self.change == "stored" and self.size is not None else ""
        return ", ".join(filter(None, (size, "found by a sweep" if self.seen_by == "sweep" else "")))

    def summary(self) -> str:
        """Name the change and its details, as in `stored, 5 bytes`."""
        return ", ".join(filter(None, (self.outcome, self.detail)))


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

    @property
    def outcome(self) -> str:
        """`hashed`."""
        return "hashed"

    @property
    def severity(self) -> Severity:
        """An error if a declared digest differs."""
        return "error" if self.verification == "mismatch" else "info"

    @property
    def detail(self) -> str:
        """The algorithms, and whether the digests are as the uploader declared."""
        verified = {"verified": "; as declared", "mismatch": "; not as declared", None: ""}[self.verification]
        return f"{', '.join(sorted(self.digests))}{verified}"
