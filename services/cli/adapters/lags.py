"""Where readers stand and what waits in the dead letters, asked of the broker."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from services.cli.adapters import kafka
from services.cli.adapters.letters import settled_places, topics_of
from services.cli.core.lag import Partition, behind, unsettled
from services.cli.settings import CliSettings
from shared.topics import CONSUMERS

COORDINATOR_PAUSES = (0.1, 0.3, 0.6, 1.0)


async def lag(settings: CliSettings) -> dict[str, dict[str, int]]:
    """Return the records each consumer group has still to read, by topic."""
    async with kafka.open_admin(settings) as admin, kafka.open_reader(settings) as reader:
        counts = await kafka.partitions_of(admin, (topic.name for read in CONSUMERS.values() for topic in read))
        groups = {group: [topic.name for topic in read] for group, read in CONSUMERS.items()}
        starts, ends = await _edges(reader, _all(counts, counts))
        found = {}
        for group, topics in groups.items():
            offsets = await _offsets(admin, group)
            committed = {(tp.topic, tp.partition): meta.offset for tp, meta in offsets.items() if meta.offset >= 0}
            found[group] = behind(committed, starts, {tp: end for tp, end in ends.items() if tp[0] in topics})
        return found


async def _offsets(admin: Any, group: str) -> Any:
    """Return a group's offsets; a broker asked for the first time has to find its coordinator."""
    for pause in COORDINATOR_PAUSES:
        with suppress(GroupCoordinatorNotAvailableError):
            return await admin.list_consumer_group_offsets(group)
        await asyncio.sleep(pause)
    return await admin.list_consumer_group_offsets(group)


async def dead_letters(settings: CliSettings) -> dict[str, int]:
    """Return how many dead letters wait, by topic."""
    async with kafka.open_admin(settings) as admin, kafka.open_reader(settings) as reader:
        names = await topics_of(admin)
        settled = await settled_places(settings, reader)
        starts, ends = await _edges(reader, _all(names, await kafka.partitions_of(admin, names)))
        return unsettled(((one.topic, one.partition, one.offset) for one in settled), starts, ends)


def _all(names: Iterable[str], counts: dict[str, int]) -> list[TopicPartition]:
    return [TopicPartition(name, number) for name in names for number in range(counts.get(name, 0))]


async def _edges(reader: Any, partitions: list[TopicPartition]) -> tuple[dict[Partition, int], dict[Partition, int]]:
    if not partitions:
        return {}, {}
    starts, ends = await asyncio.gather(reader.beginning_offsets(partitions), reader.end_offsets(partitions))
    return {(tp.topic, tp.partition): at for tp, at in starts.items()}, {
        (tp.topic, tp.partition): at for tp, at in ends.items()
    }
