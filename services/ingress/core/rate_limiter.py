"""Token-bucket rate limiter, one bucket per client."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_BUCKETS: Final = 10_000
"""Maximum number of buckets; beyond it the least recently used half is dropped."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    used_at: float


class RateLimiter:
    """Limit the rate of each client; `clock` is in seconds and monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def acquire(self, client: str, rate: float, burst: float) -> float:
        """Take one token of `client`, which gets `rate` per second and holds at most `burst`.

        Returns the seconds to wait for a token; 0 if one was taken.
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
        """Return the token of the last call for `client`."""
        if (bucket := self._buckets.get(client)) is not None:
            bucket.tokens += 1

    def _forget_idle(self, now: float) -> None:
        """Bound the memory: drop the least recently used half."""
        if len(self._buckets) >= MAX_BUCKETS:
            newest = sorted(self._buckets.items(), key=lambda entry: now - entry[1].used_at)
            self._buckets = dict(newest[: MAX_BUCKETS // 2])
