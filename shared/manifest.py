"""What a service declares about itself, and what follows from the declarations of all services.

Topics with their dead letter topics, consumer groups, Kafka and S3 users, database roles, secrets and the tables of
docs/architecture.md are computed from manifests. Nothing else names a service.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal

from shared.environment import KAFKA_PASSWORD, ROLE_PASSWORD, USER_SECRET
from shared.errors import PenstockError
from shared.events import Event
from shared.settings import Settings
from shared.topics import STORE_TOPICS, Topic, dead_letter_topics_of

Server = Literal["kafka", "postgres", "object store"]
STORE: Final = "minio"
"""The Kafka user of the object store, which publishes notifications."""
SHARED_VIEWS: Final = MappingProxyType(
    {"work": "every item of leased work, with its progress; finished ones stay for 30 days, failed ones for 90"}
)
"""Views of schema `api` that no service owns."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Allows `actions` on buckets, or on the objects in them."""

    on: Literal["buckets", "objects"]
    places: str
    """The setting with the buckets, or with prefixes as bucket/prefix, such as `input_buckets`."""
    actions: tuple[str, ...]
    when: str = ""
    """The setting that enables the grant; empty: always."""

    def statement(self, settings: Settings) -> dict[str, Any]:
        """Return the statement of an S3 policy."""
        value = getattr(settings, self.places)
        places = (value,) if isinstance(value, str) else value
        return {
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": sorted(f"arn:aws:s3:::{place}{self._suffix(place)}" for place in places),
        }

    def _suffix(self, place: str) -> str:
        if self.on == "buckets":
            return ""
        return "*" if "/" in place else "/*"


READ_INPUTS: Final = (
    # without ListBucket, a missing object answers 403 instead of 404
    Grant("buckets", "input_buckets", ("s3:ListBucket",)),
    Grant("objects", "input_buckets", ("s3:GetObject", "s3:GetObjectVersion")),
)
CHANGE_OBJECTS: Final = (
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What one service consumes, publishes, stores, reads and needs; its user may do that and no more."""

    name: str
    is_operator: bool = False
    """Whether it is a program of the operator, with the operator's rights instead of users and roles of its own."""
    needs: tuple[Server, ...] = ("kafka", "postgres", "object store")
    """The servers that it has a user of its own on."""
    secrets: tuple[str, ...] = ()
    """Secrets of the operator that it is given, such as `TOKEN`, without `PENSTOCK_`."""
    alarms: Mapping[str, str] = field(default_factory=dict)
    """Metrics worth an alarm, and the condition of each."""

    # Kafka
    consumes: tuple[Topic, ...] = ()
    consumes_all_facts: bool = False
    """Whether it consumes every fact, and every dead letter of the other services."""
    publishes: tuple[type[Event], ...] = ()
    observes_lag: bool = False
    """Whether it queries the lag of all consumer groups."""

    # the object store
    grants: tuple[Grant, ...] = ()
    more_users: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    """Grants of further S3 users by name, which it uses for single purposes; it is given their secrets."""

    # Postgres
    migrations: str = ""
    """The package with the migrations of its schema."""
    stores: str = ""
    """Its tables and what they hold, as Markdown."""
    queues: tuple[str, ...] = ()
    """Queues of leased work whose items it adds and claims; row security hides all others."""
    views: Mapping[str, str] = field(default_factory=dict)
    """The views of schema `api` that its migrations create, and what each has one row for."""
    reads: tuple[str, ...] = ()
    """Views of other services that it reads."""
    makes_tables: str = ""
    """The table that lists the tables that it creates at run time in its schema, with views in schema `api`."""
    made_views: str = ""
    """What such a view has one row for."""
    reads_made_views: bool = False
    """Whether it reads the views that other services create at run time."""
    ends_readers: bool = False
    """Whether it calls `limits.end_overdue_readers`."""

    @property
    def s3_users(self) -> dict[str, tuple[Grant, ...]]:
        """Grants by S3 user, its own first."""
        own = {self.name: self.grants} if "object store" in self.needs and not self.is_operator else {}
        return own | dict(self.more_users)

    @property
    def has_role(self) -> bool:
        """Whether it has a database role of its own."""
        return "postgres" in self.needs and not self.is_operator

    @property
    def entrusted(self) -> tuple[str, ...]:
        """The variables of secrets that it is given beside its own, without `PENSTOCK_`."""
        users = (f"{USER_SECRET}{name.upper()}".removeprefix("PENSTOCK_") for name in self.more_users)
        return (*self.secrets, *users)


class Manifests(Mapping[str, Manifest]):
    """The manifests of all services by name, and what follows from them.

    Raises PenstockError for a name, view or user that two services declare, or a topic that two declare differently.
    """

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        given = sorted(manifests, key=lambda one: one.name)
        self._by_name = {one.name: one for one in given}
        users = [user for one in given for user in one.s3_users]
        for kind, names in (
            ("service", [one.name for one in given]),
            ("view", [*SHARED_VIEWS, *(view for one in given for view in one.views)]),
            ("S3 user", users),
            ("topic", [topic.name for topic in self.topics]),
        ):
            if repeated := [name for name, count in Counter(names).items() if count > 1]:
                raise PenstockError(f"{kind} {repeated[0]} is declared twice: rename it in one manifest")

    def __getitem__(self, name: str) -> Manifest:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def services(self) -> tuple[Manifest, ...]:
        """The services that run in a stack; the operator's programs do not."""
        return tuple(one for one in self.values() if not one.is_operator)

    @property
    def with_role(self) -> dict[str, Manifest]:
        """The services with a database role of their own, by name."""
        return {one.name: one for one in self.values() if one.has_role}

    @property
    def s3_users(self) -> dict[str, tuple[Grant, ...]]:
        """Grants by S3 user."""
        return {user: grants for one in self.values() for user, grants in one.s3_users.items()}

    @cached_property
    def events(self) -> tuple[type[Event], ...]:
        """The events that services publish."""
        return tuple(dict.fromkeys(kind for one in self.values() for kind in one.publishes))

    @cached_property
    def topics(self) -> tuple[Topic, ...]:
        """All topics that are published or consumed, without dead letter topics."""
        consumed = (topic for one in self.values() for topic in one.consumes)
        return tuple(dict.fromkeys((*STORE_TOPICS, *(kind.topic for kind in self.events), *consumed)))

    @cached_property
    def consumers(self) -> dict[str, tuple[Topic, ...]]:
        """The topics that each consumer group reads; a group is named after its service."""
        acting = {one.name: one.consumes for one in self.values() if one.consumes}
        facts = tuple(topic for topic in self.topics if topic.is_fact)
        everything = {
            one.name: (*facts, *dead_letter_topics_of({name: acting[name] for name in acting if name != one.name}))
            for one in self.values()
            if one.consumes_all_facts
        }
        read = {name: tuple(dict.fromkeys((*acting.get(name, ()), *everything.get(name, ())))) for name in self}
        return {name: topics for name, topics in read.items() if topics}

    @cached_property
    def producers(self) -> dict[str, tuple[Topic, ...]]:
        """The topics that each service and the object store publish; dead letter topics follow from `consumers`."""
        published = {one.name: tuple(kind.topic for kind in one.publishes) for one in self.services if one.publishes}
        return {**published, STORE: STORE_TOPICS}

    @property
    def kafka_users(self) -> tuple[str, ...]:
        """The services with a Kafka user of their own, and the object store."""
        own = {one.name for one in self.services if "kafka" in one.needs}
        return tuple(sorted({*own, STORE}))

    @property
    def observers(self) -> tuple[str, ...]:
        """The services that query the lag of all consumer groups."""
        return tuple(one.name for one in self.services if one.observes_lag)

    @property
    def all_topics(self) -> tuple[Topic, ...]:
        """All topics that must exist, including dead letter topics."""
        return self.topics + dead_letter_topics_of(self.consumers)

    @property
    def views(self) -> frozenset[str]:
        """The names of all views of schema `api` that migrations create."""
        return frozenset({*SHARED_VIEWS, *(view for one in self.values() for view in one.views)})

    @property
    def secrets(self) -> tuple[str, ...]:
        """The variables with the secrets of all users and roles of services."""
        return (
            *(USER_SECRET + name.upper() for name in self.s3_users),
            *(ROLE_PASSWORD + name.upper() for name in self.with_role),
            *(KAFKA_PASSWORD + name.upper() for name in self.kafka_users),
        )
