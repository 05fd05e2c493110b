"""Create what services require: topics, users, buckets, notification rules, database roles, tables.

Every step compares first, changes only differences and returns a line for each: it is safe at any time. Set-up runs all
steps, `ingest` restores notification rules, `penstock doctor --fix` repairs.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import SecretStr

from shared.provision.buckets import ensure_buckets, ensure_rules, missing_rules
from shared.provision.database import ensure_database
from shared.provision.kafka_users import ensure_kafka_users
from shared.provision.reader import ensure_reader
from shared.provision.topics import ensure_topics
from shared.provision.users import ensure_users
from shared.settings import Settings
from shared.topics import all_topics

__all__ = [
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


async def provision(
    settings: Settings,
    secrets: Mapping[str, SecretStr],
    reader: SecretStr | None = None,
    passwords: Mapping[str, SecretStr] | None = None,
    *,
    kafka_passwords: Mapping[str, SecretStr] = MappingProxyType({}),
) -> list[str]:
    """Run all steps in order of their dependencies (a rule needs its bucket and topic); return the changes.

    `secrets` are the secrets of the S3 users by service; `reader` is the password of the reading database role, None
    skips it; `passwords` are those of the database roles by service, None skips the database; `kafka_passwords` are
    those of the Kafka users, if Kafka has users. Requires administrators of the object store and of Kafka.
    """
    return [
        *await ensure_topics(settings, all_topics()),
        *await ensure_kafka_users(settings, kafka_passwords),
        *await ensure_buckets(settings, settings.buckets),
        *await ensure_users(settings, secrets),
        *await ensure_rules(settings, settings.input_buckets),
        *(await ensure_reader(settings.postgres_dsn, reader) if reader is not None else []),
        *(await ensure_database(settings.postgres_dsn, passwords) if passwords is not None else []),
    ]
