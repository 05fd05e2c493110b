"""How often somebody may come: a bucket of tokens each, filled at a steady rate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MOST: Final = 10_000
"""So many are remembered at most; past it the longest unseen half is forgotten."""


@dataclass(slots=True)
class _Bucket:
    left: float
    seen: float


class Rates:
    """Counts who comes; `clock` is in seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, who: str, rate: float, burst: float) -> float:
        """Count one visit of `who`, at most `rate` a second and `burst` at once.

        Returns the seconds to wait until there is room for it; 0 when there was.
        """
        now, burst = self._clock(), max(1.0, burst)
        bucket = self._buckets.get(who)
        if bucket is None:
            self._forget_idle(now)
            bucket = self._buckets[who] = _Bucket(burst, now)
        bucket.left = min(burst, bucket.left + (now - bucket.seen) * rate)
        bucket.seen = now
        if bucket.left < 1:
            return (1 - bucket.left) / rate
        bucket.left -= 1
        return 0.0

    def give_back(self, who: str) -> None:
        """Take back the last visit of `who`, which turned out to be welcome."""
        if (bucket := self._buckets.get(who)) is not None:
            bucket.left += 1

    def _forget_idle(self, now: float) -> None:
        """Keep memory bounded, whoever comes from wherever: the longest unseen half goes."""
        if len(self._buckets) >= MOST:
            newest = sorted(self._buckets.items(), key=lambda entry: now - entry[1].seen)
            self._buckets = dict(newest[: MOST // 2])
