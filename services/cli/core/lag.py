"""Counts of unresolved dead letters, from offsets alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

Partition = tuple[str, int]
"""Topic and partition number."""


def count_unresolved(
    resolved: Iterable[tuple[str, int, int]], starts: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> dict[str, int]:
    """Return the number of dead letters that are neither replayed nor discarded, by topic."""
    counts: dict[str, int] = defaultdict(int)
    for partition, end in ends.items():
        counts[partition[0]] += end - starts[partition]
    for topic, number, offset in set(resolved):
        partition = (topic, number)
        if partition in ends and starts[partition] <= offset < ends[partition]:
            counts[topic] -= 1
    return dict(counts)
