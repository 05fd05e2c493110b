"""Rate-limit wake-ups by notifications, which any client may send: the first is immediate, later ones are merged."""

import asyncio
from collections.abc import Callable
from typing import Final

WAKE_SECONDS: Final = 0.05


class Wakeups:
    """Call `wake` at the first notification, then at most once per `seconds` for all that arrive meanwhile."""

    def __init__(self, wake: Callable[[], None], seconds: float = WAKE_SECONDS) -> None:
        self._wake = wake
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    def notify(self) -> None:
        """Accept one notification."""
        if self._timer is not None:
            self._is_due = True
            return
        self._wake()
        self._is_due = False
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._is_due:
            self.notify()
