"""Wake-ups by notifications, which anybody may send: the first counts at once, a storm of them at a bounded rate."""

import asyncio
from collections.abc import Callable
from typing import Final

WAKE_SECONDS: Final = 0.05


class Wakeups:
    """Call `wake` at the first notification, then at most once per `seconds` for all that came meanwhile."""

    def __init__(self, wake: Callable[[], None], seconds: float = WAKE_SECONDS) -> None:
        self._wake = wake
        self._seconds = seconds
        self._resting: asyncio.TimerHandle | None = None
        self._is_due = False

    def notify(self) -> None:
        """Take one notification."""
        if self._resting is not None:
            self._is_due = True
            return
        self._wake()
        self._is_due = False
        self._resting = asyncio.get_running_loop().call_later(self._seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if self._is_due:
            self.notify()
