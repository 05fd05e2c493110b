"""Rate and remaining time of long work, for the progress that its lease reports."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Throughput:
    """Measures work that begins with this object; counts are of any unit, such as bytes, rows or objects."""

    now: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "started", self.now())

    def per_second(self, done: float) -> int:
        """Return the mean rate of `done` since the start, rounded; 0 while no time has passed."""
        seconds = self.now() - self.started
        return round(done / seconds) if seconds else 0

    def eta_seconds(self, done: float, total: float) -> float | None:
        """Return the seconds until `total` at the mean rate, to a tenth; None before anything is done."""
        seconds = self.now() - self.started
        return round(seconds * (total - done) / done, 1) if done and seconds else None
