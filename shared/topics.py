"""Every topic, once: its name, partitions, retention and whether it is compacted.

Partition counts are powers of the smallest useful parallelism; topics that are merged by key (the two
notification lanes) have equal counts, so that one member of a group holds the same keys of both.
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
    """A topic as it must exist before anybody reads or writes it; `retention_ms` is how long records stay.

    `max_bytes` bounds one record; None is the broker's own limit, 1 MiB.
    """

    name: str
    partitions: int = 6
    retention_ms: int = 7 * DAY_MS
    compacted: bool = False
    max_bytes: int | None = None

    @property
    def config(self) -> dict[str, str]:
        """The broker's settings for this topic."""
        policy = "compact,delete" if self.compacted else "delete"
        limit = {"max.message.bytes": str(self.max_bytes)} if self.max_bytes else {}
        return {"retention.ms": str(self.retention_ms), "cleanup.policy": policy} | limit

    @property
    def is_dead_letter_topic(self) -> bool:
        """Whether this is where some service puts what it cannot use."""
        return self.name.endswith(DEAD_LETTER_SUFFIX)

    @property
    def is_fact(self) -> bool:
        """Whether its records say what has happened: neither a request, nor a notification as MinIO sends it."""
        return not self.name.startswith("minio.") and ".requested." not in self.name

    def dead_letter_topic(self, service: str) -> "Topic":
        """Where `service` puts records of this topic that it cannot use; kept long enough for a holiday.

        The largest record that fits its own topic fits here together with the reason.
        """
        name = f"{self.name}.{service}{DEAD_LETTER_SUFFIX}"
        return Topic(name, partitions=1, retention_ms=30 * DAY_MS, max_bytes=MAX_DEAD_LETTER_BYTES)


MINIO_LIVE: Final = Topic("minio.live")
MINIO_SAFE: Final = Topic("minio.safe")
OBJECTS_CHANGED: Final = Topic("objects.changed.v1")
OBJECTS_HASHED: Final = Topic("objects.hashed.v1")
SWEEPS_REQUESTED: Final = Topic("sweeps.requested.v1", partitions=1)
SWEEPS_COMPLETED: Final = Topic("sweeps.completed.v1", partitions=1)
ETL_REQUESTED: Final = Topic("etl.requested.v1", partitions=1)
ETL_LOADED: Final = Topic("etl.loaded.v1")
ETL_COMPLETED: Final = Topic("etl.completed.v1", partitions=1)
DEAD_LETTERS_SETTLED: Final = Topic("dead-letters.settled.v1", partitions=1, retention_ms=60 * DAY_MS, compacted=True)
"""Kept longer than any dead letter, so that a settled one never comes back."""

TOPICS: Final = (
    MINIO_LIVE,
    MINIO_SAFE,
    OBJECTS_CHANGED,
    OBJECTS_HASHED,
    SWEEPS_REQUESTED,
    SWEEPS_COMPLETED,
    ETL_REQUESTED,
    ETL_LOADED,
    ETL_COMPLETED,
    DEAD_LETTERS_SETTLED,
)

_DOING: Final[Mapping[str, tuple[Topic, ...]]] = {
    "ingest": (MINIO_LIVE, MINIO_SAFE, SWEEPS_REQUESTED),
    "hasher": (OBJECTS_CHANGED,),
    "etl": (OBJECTS_CHANGED, OBJECTS_HASHED, ETL_REQUESTED),
}
"""Who reads what, to do something about it."""


def dead_letter_topics_of(consumers: Mapping[str, tuple[Topic, ...]]) -> tuple[Topic, ...]:
    """Return where `consumers` put what they cannot use; a dead letter that cannot be used is put nowhere again."""
    return tuple(
        topic.dead_letter_topic(service)
        for service, read in consumers.items()
        for topic in read
        if not topic.is_dead_letter_topic
    )


CONSUMERS: Final[Mapping[str, tuple[Topic, ...]]] = {
    **_DOING,
    "ingress": (*(topic for topic in TOPICS if topic.is_fact), *dead_letter_topics_of(_DOING)),
}
"""Who reads what: from this come the consumer groups and the dead letter topics. The ingress shows every fact and every
dead letter, those of a service that is new too."""


def all_topics() -> tuple[Topic, ...]:
    """Every topic that has to exist, dead letters included."""
    return TOPICS + dead_letter_topics_of(CONSUMERS)


PRODUCERS: Final[Mapping[str, tuple[Topic, ...]]] = {
    "ingest": (OBJECTS_CHANGED, SWEEPS_COMPLETED),
    "hasher": (OBJECTS_HASHED,),
    "etl": (ETL_LOADED, ETL_COMPLETED),
    "ingress": (SWEEPS_REQUESTED, ETL_REQUESTED),
    "minio": (MINIO_LIVE, MINIO_SAFE),
}
"""Who publishes what, the object store among them; dead letters follow from CONSUMERS."""

OBSERVERS: Final = ("ingress",)
"""Who asks how far every consumer group is behind."""
