"""Topics that several services share: name, key, partitions, retention and cleanup policy.

Topics that are merged by key (the two notification lanes) have equal partition counts, so that one group member gets
the same keys of both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
MAX_DEAD_LETTER_BYTES: Final = 4 << 20
DEAD_LETTER_SUFFIX: Final = ".dlq"


@dataclass(frozen=True, slots=True)
class Topic:
    """The required configuration of a topic.

    `max_bytes` limits one record; None means the broker's limit, 1 MiB.
    """

    name: str
    partitions: int = 6
    key: str = "bucket/key"
    """What its records are keyed by, for documents."""
    about: str = ""
    """What its records say, for documents."""
    retention_ms: int = 7 * DAY_MS
    compacted: bool = False
    max_bytes: int | None = None

    @property
    def config(self) -> dict[str, str]:
        """The topic's configuration at the broker."""
        policy = "compact,delete" if self.compacted else "delete"
        limit = {"max.message.bytes": str(self.max_bytes)} if self.max_bytes else {}
        return {"retention.ms": str(self.retention_ms), "cleanup.policy": policy} | limit

    @property
    def is_dead_letter_topic(self) -> bool:
        """Whether this is a dead letter topic."""
        return self.name.endswith(DEAD_LETTER_SUFFIX)

    @property
    def is_fact(self) -> bool:
        """Whether its records are facts, not requests or MinIO's notifications."""
        return not self.name.startswith("minio.") and ".requested." not in self.name

    def dead_letter_topic(self, service: str) -> "Topic":
        """Return the topic for records of this topic that `service` cannot use.

        It takes the largest record of this topic together with the headers that explain the error.
        """
        name = f"{self.name}.{service}{DEAD_LETTER_SUFFIX}"
        return Topic(name, partitions=1, retention_ms=30 * DAY_MS, max_bytes=MAX_DEAD_LETTER_BYTES)


MINIO_LIVE: Final = Topic("minio.live", about="MinIO's notification, sent with the PUT; lost when Kafka is away")
MINIO_SAFE: Final = Topic("minio.safe", about="the same, through a queue on MinIO's disk; late, not lost")
OBJECTS_CHANGED: Final = Topic("objects.changed.v1", about="an object was stored or removed")
OBJECTS_HASHED: Final = Topic("objects.hashed.v1", about="a stored version has its digests")
SWEEPS_REQUESTED: Final = Topic(
    "sweeps.requested.v1", partitions=1, key="sweep id", about="compare these buckets with what is known, now"
)
SWEEPS_COMPLETED: Final = Topic("sweeps.completed.v1", partitions=1, key="sweep id", about="what a sweep found")
ETL_REQUESTED: Final = Topic(
    "etl.requested.v1", partitions=1, key="dataset", about="compare this dataset's bucket with its table, now"
)
ETL_LOADED: Final = Topic("etl.loaded.v1", about="the table of a dataset reflects a file or image, stored or removed")
ETL_COMPLETED: Final = Topic("etl.completed.v1", partitions=1, key="dataset", about="what such a comparison found")
DEAD_LETTERS_SETTLED: Final = Topic(
    "dead-letters.settled.v1",
    partitions=1,
    key="dead letter",
    about="a dead letter was replayed or discarded; compacted",
    retention_ms=60 * DAY_MS,
    compacted=True,
)
"""Retained longer than dead letters, so that a settled one never reappears."""

STORE_TOPICS: Final = (MINIO_LIVE, MINIO_SAFE)
"""The topics that the object store publishes."""


def dead_letter_topics_of(consumers: Mapping[str, tuple[Topic, ...]]) -> tuple[Topic, ...]:
    """Return the dead letter topics of `consumers`; a dead letter topic has none of its own."""
    return tuple(
        topic.dead_letter_topic(service)
        for service, read in consumers.items()
        for topic in read
        if not topic.is_dead_letter_topic
    )
