"""How fast consumer groups read, from what was seen of their offsets."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

WINDOW_SECONDS: Final = 60.0
MIN_WINDOW_SECONDS: Final = 1.0
"""Minimum distance of two samples for a rate: offsets are committed in batches."""

Committed = Mapping[tuple[str, int], int]
"""The next offset to read, by topic and partition."""


@dataclass(slots=True)
class Throughput:
    """Samples of all groups' committed offsets within the last minute."""

    _samples: deque[tuple[float, Mapping[str, Committed]]] = field(default_factory=deque)

    def add_sample(self, at: float, committed: Mapping[str, Committed]) -> None:
        """Remember what was seen at the moment `at`, in seconds; what is older than the window is forgotten."""
        self._samples.append((at, committed))
        while self._samples[0][0] < at - WINDOW_SECONDS:
            self._samples.popleft()

    def rates(self, group: str) -> tuple[dict[str, float], float | None]:
        """Return records per second by topic, and the seconds they cover; None without an earlier sample."""
        (before, first), (now, last) = self._samples[0], self._samples[-1]
        if (seconds := now - before) < MIN_WINDOW_SECONDS:
            return {}, None
        read: dict[str, int] = {}
        for topic_partition, offset in last.get(group, {}).items():
            start = first.get(group, {}).get(topic_partition)
            if start is not None:
                read[topic_partition[0]] = read.get(topic_partition[0], 0) + max(0, offset - start)
        return {topic: round(count / seconds, 3) for topic, count in read.items()}, round(seconds, 1)
