"""What waits unsettled, from offsets alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

Partition = tuple[str, int]
"""A topic and a partition's number."""


def unsettled(
    settled: Iterable[tuple[str, int, int]], starts: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> dict[str, int]:
    """Return dead letters that nobody has settled, by topic."""
    waiting: dict[str, int] = defaultdict(int)
    for partition, end in ends.items():
        waiting[partition[0]] += end - starts[partition]
    for topic, number, offset in set(settled):
        at = (topic, number)
        if at in ends and starts[at] <= offset < ends[at]:
            waiting[topic] -= 1
    return dict(waiting)
