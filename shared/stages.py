"""Track since when a service has made no progress, to tell slow from stuck.

A stage is a stream of topics or a queue of leased work. It begins when it gets records or work, and it makes progress
when a batch is committed or an item completes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from shared.errors import one_line

RELEASED_SECONDS: Final = 30.0
"""After this, another process has taken over released records or work, such as a partition after a rebalance."""


@dataclass(frozen=True, slots=True)
class Stall:
    """The stage that has waited longest, its seconds without progress, and its last error."""

    stage: str = ""
    seconds: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class StageProgress:
    """Stages with pending records or work, each with the time since which it made no progress."""

    now: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)
    _reasons: dict[str, str] = field(default_factory=dict)
    _released: dict[str, float] = field(default_factory=dict)

    def begin(self, stage: str) -> None:
        """Note that a stage got records or work; a retry keeps the time of the first attempt."""
        self._since.setdefault(stage, self.now())
        self._released.pop(stage, None)

    def released(self, stage: str, error: BaseException) -> None:
        """Note that a stage failed and released its records or work, for a retry here or by another process."""
        self.failed(stage, error)
        self._released[stage] = self.now()

    def failed(self, stage: str, error: BaseException) -> None:
        """Note that a stage failed and will retry."""
        self.begin(stage)
        self._reasons[stage] = one_line(error)

    def done(self, stage: str) -> None:
        """Note that a stage made progress."""
        self._since.pop(stage, None)
        self._reasons.pop(stage, None)
        self._released.pop(stage, None)

    def stall(self) -> Stall:
        """Return the stage that has waited longest; 0 seconds if none is pending."""
        for stage in [one for one, at in self._released.items() if self.now() - at > RELEASED_SECONDS]:
            self.done(stage)
        if not self._since:
            return Stall()
        stage = min(self._since, key=self._since.__getitem__)
        return Stall(stage, self.now() - self._since[stage], self._reasons.get(stage, ""))
