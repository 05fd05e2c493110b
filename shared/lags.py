"""Query the broker for the lag of consumer groups; the caller provides the clients and handles their errors."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from shared.topics import Topic

Partition = tuple[str, int]
"""Topic and partition number."""
Offsets = dict[Partition, int]

_COORDINATOR_PAUSES: Final = (0.1, 0.3, 0.6, 1.0)


def lag_by_topic(
    committed: Mapping[Partition, int], starts: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> dict[str, int]:
    """Return the lag in records by topic; without a committed offset it counts from the first retained record."""
    lag: dict[str, int] = defaultdict(int)
    for partition, end in ends.items():
        start = starts[partition]
        lag[partition[0]] += max(0, end - max(committed.get(partition, start), start))
    return dict(lag)


async def lag_of_groups(
    admin: Any, reader: Any, consumers: Mapping[str, Iterable[Topic]]
) -> tuple[dict[str, dict[str, int]], dict[str, Offsets]]:
    """Return the lag of each consumer group by topic, and its committed offsets; `consumers` are topics by group."""
    groups = {group: [topic.name for topic in read] for group, read in consumers.items()}
    counts = await partition_counts(admin, (name for names in groups.values() for name in names))
    starts, ends = await first_and_end_offsets(reader, topic_partitions(counts, counts))
    lags, committed = {}, {}
    for group, topics in groups.items():
        committed[group] = await committed_offsets(admin, group)
        lags[group] = lag_by_topic(
            committed[group], starts, {partition: end for partition, end in ends.items() if partition[0] in topics}
        )
    return lags, committed


async def partition_counts(admin: Any, topics: Iterable[str]) -> dict[str, int]:
    """Return the number of partitions of each of `topics` that exists."""
    names = set(topics)
    described = await admin.describe_topics()
    return {one["topic"]: len(one["partitions"]) for one in described if one["topic"] in names}


def topic_partitions(names: Iterable[str], counts: Mapping[str, int]) -> list[TopicPartition]:
    """Return all partitions of the topics `names`, given the number of partitions of each."""
    return [TopicPartition(name, number) for name in names for number in range(counts.get(name, 0))]


async def first_and_end_offsets(reader: Any, partitions: list[TopicPartition]) -> tuple[Offsets, Offsets]:
    """Return the offset of the first retained record of each partition, and the end offset."""
    if not partitions:
        return {}, {}
    starts, ends = await asyncio.gather(reader.beginning_offsets(partitions), reader.end_offsets(partitions))
    return {(tp.topic, tp.partition): at for tp, at in starts.items()}, {
        (tp.topic, tp.partition): at for tp, at in ends.items()
    }


async def committed_offsets(admin: Any, group: str) -> Offsets:
    """Return a group's committed offsets; retry while the broker looks up the group's coordinator."""
    for pause in _COORDINATOR_PAUSES:
        with suppress(GroupCoordinatorNotAvailableError):
            return await _committed(admin, group)
        await asyncio.sleep(pause)
    return await _committed(admin, group)


async def _committed(admin: Any, group: str) -> Offsets:
    offsets = await admin.list_consumer_group_offsets(group)
    return {(tp.topic, tp.partition): meta.offset for tp, meta in offsets.items() if meta.offset >= 0}
