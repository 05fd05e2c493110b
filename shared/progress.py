"""What a service is at, and since when it has not come forward: the difference between slow and stuck.

A stage is a stream of topics or a queue of leased work. It begins with records or work in hand, and it comes forward
when a batch is committed or an item completes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from shared.errors import one_line

RELEASED_SECONDS: Final = 30.0
"""After this what was given back, such as a partition after a rebalance, is in other hands."""


@dataclass(frozen=True, slots=True)
class Stall:
    """The stage that has waited longest: for how many seconds, and the last error it met."""

    stage: str = ""
    seconds: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Progress:
    """Stages with something in hand, each since its last success."""

    now: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)
    _reasons: dict[str, str] = field(default_factory=dict)
    _released: dict[str, float] = field(default_factory=dict)

    def begin(self, stage: str) -> None:
        """Note that a stage has something in hand; a repeat goes on from its first try."""
        self._since.setdefault(stage, self.now())
        self._released.pop(stage, None)

    def released(self, stage: str, error: BaseException) -> None:
        """Note that a stage failed and gave back what it had in hand; it comes again at once, or elsewhere."""
        self.failed(stage, error)
        self._released[stage] = self.now()

    def failed(self, stage: str, error: BaseException) -> None:
        """Note that a stage met an error and will try again."""
        self.begin(stage)
        self._reasons[stage] = one_line(error)

    def done(self, stage: str) -> None:
        """Note that a stage came forward."""
        self._since.pop(stage, None)
        self._reasons.pop(stage, None)
        self._released.pop(stage, None)

    def stall(self) -> Stall:
        """Return the stage that has waited longest; none: no seconds."""
        for gone in [one for one, at in self._released.items() if self.now() - at > RELEASED_SECONDS]:
            self.done(gone)
        if not self._since:
            return Stall()
        stage = min(self._since, key=self._since.__getitem__)
        return Stall(stage, self.now() - self._since[stage], self._reasons.get(stage, ""))
