"""How often somebody may come: a bucket of tokens each, filled at a steady rate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_BUCKETS: Final = 10_000
"""So many are remembered at most; past it the longest unseen half is forgotten."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    used_at: float


class RateLimiter:
    """Counts who comes; `clock` is in seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def acquire(self, client: str, rate: float, burst: float) -> float:
        """Count one visit of `who`, at most `rate` a second and `burst` at once.

        Returns the seconds to wait until there is room for it; 0 when there was.
        """
        now, burst = self._clock(), max(1.0, burst)
        bucket = self._buckets.get(client)
        if bucket is None:
            self._forget_idle(now)
            bucket = self._buckets[client] = _Bucket(burst, now)
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.used_at) * rate)
        bucket.used_at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / rate
        bucket.tokens -= 1
        return 0.0

    def refund(self, client: str) -> None:
        """Take back the last visit of `who`, which turned out to be welcome."""
        if (bucket := self._buckets.get(client)) is not None:
            bucket.tokens += 1

    def _forget_idle(self, now: float) -> None:
        """Keep memory bounded, whoever comes from wherever: the longest unseen half goes."""
        if len(self._buckets) >= MAX_BUCKETS:
            newest = sorted(self._buckets.items(), key=lambda entry: now - entry[1].used_at)
            self._buckets = dict(newest[: MAX_BUCKETS // 2])
