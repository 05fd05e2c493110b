"""Create what services require: topics, users, buckets, notification rules, database roles, tables.

Every step compares first, changes only differences and returns a line for each: it is safe at any time. Set-up runs all
steps, a running stack restores notification rules, `penstock doctor --fix` repairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from shared.manifest import Manifests
from shared.provision.buckets import ensure_buckets, ensure_rules, missing_rules
from shared.provision.database import ensure_database
from shared.provision.kafka_users import ensure_kafka_users
from shared.provision.reader import ensure_reader
from shared.provision.topics import ensure_topics
from shared.provision.users import ensure_users
from shared.settings import Settings

__all__ = [
    "Secrets",
    "ensure_buckets",
    "ensure_database",
    "ensure_kafka_users",
    "ensure_reader",
    "ensure_rules",
    "ensure_topics",
    "ensure_users",
    "missing_rules",
    "provision",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Secrets and passwords of the users and roles that set-up creates, by name in the manifests."""

    s3_users: Mapping[str, SecretStr]
    kafka_users: Mapping[str, SecretStr] = field(default_factory=dict)
    """Applied only if Kafka has users."""
    database_roles: Mapping[str, SecretStr] | None = None
    """None leaves the database as it is."""
    reader: SecretStr | None = None
    """The password of the reading database role; None leaves that role as it is."""


async def provision(settings: Settings, manifests: Manifests, secrets: Secrets) -> list[str]:
    """Run all steps in order of their dependencies (a rule needs its bucket and topic); return the changes.

    Requires administrators of the object store and of Kafka.
    """
    dsn, reader, roles = settings.postgres_dsn, secrets.reader, secrets.database_roles
    return [
        *await ensure_topics(settings, manifests.all_topics),
        *await ensure_kafka_users(settings, manifests, secrets.kafka_users),
        *await ensure_buckets(settings, settings.buckets),
        *await ensure_users(settings, manifests.s3_users, secrets.s3_users),
        *await ensure_rules(settings, settings.input_buckets),
        *(await ensure_reader(dsn, reader) if reader is not None else []),
        *(await ensure_database(dsn, manifests, roles) if roles is not None else []),
    ]
