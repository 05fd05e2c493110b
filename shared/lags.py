"""How far consumer groups are behind, asked of the broker; whoever asks brings the clients and names their failures."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from shared.topics import CONSUMERS

Partition = tuple[str, int]
"""A topic and a partition's number."""
Offsets = dict[Partition, int]

COORDINATOR_PAUSES: Final = (0.1, 0.3, 0.6, 1.0)


def lag_by_topic(
    committed: Mapping[Partition, int], starts: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> dict[str, int]:
    """Return records to read, by topic; without a commit, reading starts at the first record kept."""
    lag: dict[str, int] = defaultdict(int)
    for partition, end in ends.items():
        start = starts[partition]
        lag[partition[0]] += max(0, end - max(committed.get(partition, start), start))
    return dict(lag)


async def lag_of_groups(admin: Any, reader: Any) -> tuple[dict[str, dict[str, int]], dict[str, Offsets]]:
    """Return what each consumer group of ours has still to read, by topic, and what it has committed."""
    groups = {group: [topic.name for topic in read] for group, read in CONSUMERS.items()}
    counts = await partition_counts(admin, (name for names in groups.values() for name in names))
    starts, ends = await first_and_end_offsets(reader, topic_partitions(counts, counts))
    lags, done = {}, {}
    for group, topics in groups.items():
        done[group] = await committed_offsets(admin, group)
        lags[group] = lag_by_topic(
            done[group], starts, {place: end for place, end in ends.items() if place[0] in topics}
        )
    return lags, done


async def partition_counts(admin: Any, topics: Iterable[str]) -> dict[str, int]:
    """Return how many partitions each of `topics` has; a topic that is not there is left out."""
    wanted = set(topics)
    described = await admin.describe_topics()
    return {one["topic"]: len(one["partitions"]) for one in described if one["topic"] in wanted}


def topic_partitions(names: Iterable[str], counts: Mapping[str, int]) -> list[TopicPartition]:
    """Return every partition of the topics `names`, of which there are so many each."""
    return [TopicPartition(name, number) for name in names for number in range(counts.get(name, 0))]


async def first_and_end_offsets(reader: Any, partitions: list[TopicPartition]) -> tuple[Offsets, Offsets]:
    """Return the offset of the first record that is kept of each partition, and the one after the last."""
    if not partitions:
        return {}, {}
    starts, ends = await asyncio.gather(reader.beginning_offsets(partitions), reader.end_offsets(partitions))
    return {(tp.topic, tp.partition): at for tp, at in starts.items()}, {
        (tp.topic, tp.partition): at for tp, at in ends.items()
    }


async def committed_offsets(admin: Any, group: str) -> Offsets:
    """Return a group's offsets; a broker asked for the first time has to find its coordinator."""
    for pause in COORDINATOR_PAUSES:
        with suppress(GroupCoordinatorNotAvailableError):
            return await _committed(admin, group)
        await asyncio.sleep(pause)
    return await _committed(admin, group)


async def _committed(admin: Any, group: str) -> Offsets:
    offsets = await admin.list_consumer_group_offsets(group)
    return {(tp.topic, tp.partition): meta.offset for tp, meta in offsets.items() if meta.offset >= 0}
