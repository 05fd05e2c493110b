"""The least rate of uploads and downloads: slower clients hold permits that others wait for."""

import math
from typing import Final

from prometheus_client import Counter

from services.ingress.settings import IngressSettings

TOO_SLOW: Final = Counter(
    "penstock_ingress_too_slow_total", "Uploads and downloads ended because they moved too few bytes.", ["direction"]
)


class MinRate:
    """Check that a client moves `min_rate_bytes` per second, averaged over about `min_rate_grace_seconds`.

    A client starts with the credit of the whole grace period and never has more, so earlier fast transfers do not pay
    for a later stall. Only time spent waiting for the client counts.
    """

    def __init__(self, settings: IngressSettings) -> None:
        self._rate = settings.min_rate_bytes
        self._max_credit = self._rate * settings.min_rate_grace_seconds
        self._credit = self._max_credit

    @property
    def seconds_left(self) -> float:
        """Return how long the client may still move no bytes; infinite without a minimum rate."""
        return max(0.0, self._credit / self._rate) if self._rate else math.inf

    def record(self, seconds: float, size: int) -> bool:
        """Count `size` bytes that took `seconds` of waiting; return whether that is fast enough."""
        self._credit = min(self._max_credit, self._credit - seconds * self._rate + size)
        return self._credit >= 0
