"""Topics as `shared.topics` lists them: made, grown and configured, never shrunk or removed."""

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

_COPIES: Final = 3
"""Of each partition, where there are as many brokers."""

_SET_ON_TOPIC: Final = 1
"""DescribeConfigs' source of a value that was set for this topic alone (KIP-226)."""


async def ensure_topics(settings: Settings, topics: Sequence[Topic]) -> list[str]:
    """Create missing topics, add missing partitions, set what is set otherwise; settings of others stay.

    More partitions move keys to other partitions, so a topic with more than it needs keeps them.

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
    copies = min(_COPIES, len((await admin.describe_cluster())["brokers"]))
    wanted = [NewTopic(t.name, t.partitions, copies, topic_configs=t.config) for t in topics]
    answer = await admin.create_topics(wanted)
    for name, code, text in answer.topic_errors:
        # another process may be doing the same
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise for_code(code)(f"topic {name}: {text}")
    return [f"topic {t.name}: created with {t.partitions} partitions" for t in topics]


async def _grow(admin: Any, topics: Sequence[Topic], sizes: Mapping[str, int]) -> list[str]:
    for topic in topics:
        # another process may be doing the same: then there are enough by now
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
            # the request replaces a topic's whole configuration, so what others set goes with it
            await _alter(admin, topic.name, own | topic.config)
            told = ", ".join(f"{name}={value}" for name, value in differing.items())
            changed.append(f"topic {topic.name}: set {told}")
    return changed


async def _configs(admin: Any, topics: Iterable[Topic]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """By topic: every value in force, and those set for this topic alone."""
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
    """Give an admin client of the operator.

    Raises:
        Outage: Kafka does not answer.
        Rejected: ACCESS_DENIED when the user is not the operator.

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
