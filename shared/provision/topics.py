"""Create, extend and configure the topics of `shared.topics`; never shrink or remove them."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidPartitionsError, KafkaError, TopicAlreadyExistsError, for_code

from shared import kafka
from shared.errors import Outage, Rejected, one_line
from shared.settings import Settings
from shared.topics import Topic

_REPLICAS: Final = 3
"""Replicas of each partition, or one per broker if there are fewer brokers."""

_SET_ON_TOPIC: Final = 1
"""DescribeConfigs' source of a value that is set on the topic itself (KIP-226)."""


async def ensure_topics(settings: Settings, topics: Sequence[Topic]) -> list[str]:
    """Create missing topics, add missing partitions, and set differing settings; return the changes.

    Topics with more partitions keep them, and settings that `shared.topics` does not define stay.

    Raises:
        Outage: Kafka does not answer.

    """
    async with open_admin(settings) as admin:
        sizes = {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics()}
        missing = [topic for topic in topics if topic.name not in sizes]
        small = [topic for topic in topics if sizes.get(topic.name, topic.partitions) < topic.partitions]
        known = [topic for topic in topics if topic.name in sizes]
        return [
            *await _create(admin, missing),
            *await _grow(admin, small, sizes),
            *await _configure(admin, known),
        ]


async def _create(admin: Any, topics: Sequence[Topic]) -> list[str]:
    if not topics:
        return []
    replicas = min(_REPLICAS, len((await admin.describe_cluster())["brokers"]))
    new_topics = [NewTopic(t.name, t.partitions, replicas, topic_configs=t.config) for t in topics]
    answer = await admin.create_topics(new_topics)
    for name, code, text in answer.topic_errors:
        # another process may be doing the same
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise for_code(code)(f"topic {name}: {text}")
    return [f"topic {t.name}: created with {t.partitions} partitions" for t in topics]


async def _grow(admin: Any, topics: Sequence[Topic], sizes: Mapping[str, int]) -> list[str]:
    for topic in topics:
        # another process has added partitions meanwhile
        with suppress(InvalidPartitionsError):
            await admin.create_partitions({topic.name: NewPartitions(topic.partitions)})
    return [f"topic {t.name}: partitions raised from {sizes[t.name]} to {t.partitions}" for t in topics]


async def _configure(admin: Any, topics: Sequence[Topic]) -> list[str]:
    changed: list[str] = []
    if not topics:
        return changed
    set_now = await _configs(admin, topics)
    for topic in topics:
        current, own = set_now[topic.name]
        differing = {name: value for name, value in topic.config.items() if current.get(name) != value}
        if differing:
            # the request replaces the whole configuration of a topic, so include settings of others
            await _alter(admin, topic.name, own | topic.config)
            values = ", ".join(f"{name}={value}" for name, value in differing.items())
            changed.append(f"topic {topic.name}: set {values}")
    return changed


async def _configs(admin: Any, topics: Iterable[Topic]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Return for each topic the effective settings, and those set on the topic itself."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
    found = {}
    for answer in await admin.describe_configs(resources):
        for code, text, _kind, name, entries in answer.resources:
            _raise_for(code, name, text)
            values = {entry[0]: entry[1] for entry in entries}
            found[name] = values, {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}
    return found


async def _alter(admin: Any, name: str, config: Mapping[str, str]) -> None:
    for answer in await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, dict(config))]):
        for code, text, *_ in answer.resources:
            _raise_for(code, name, text)


def _raise_for(code: int, name: str, text: str | None) -> None:
    if code:
        raise for_code(code)(f"topic {name}: {text}")


@asynccontextmanager
async def open_admin(settings: Settings) -> AsyncIterator[Any]:
    """Open an admin client as the operator.

    Raises:
        Outage: Kafka does not answer.
        Rejected: ACCESS_DENIED if the user is not the operator.

    """
    admin = AIOKafkaAdminClient(**kafka.client_options(settings), client_id="penstock-set-up")
    try:
        async with kafka.explain_refusals(settings):
            await admin.start()
        yield admin
    except kafka.AUTHORIZATION_ERRORS as error:
        raise Rejected("ACCESS_DENIED", str(kafka.KafkaDenied(settings, one_line(error)))) from error
    except KafkaError as error:
        if not error.retriable:
            raise
        raise Outage(f"Kafka at {settings.kafka_bootstrap} cannot be set up: {error}") from error
    finally:
        await admin.close()
