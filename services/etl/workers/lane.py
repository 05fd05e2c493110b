"""The lane of large files: one is read at a time; a slow one yields to those that wait."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

MAX_HOLD_SECONDS: Final = 5.0
"""How long a file holds the lane while others wait."""


@dataclass(slots=True)
class Lane:
    """A fair lock: files get the lane in the order of their requests."""

    max_hold_seconds: float = MAX_HOLD_SECONDS
    waiting: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator["LaneLock"]:
        """Hold the lane while the block runs, except while it is yielded to others."""
        lane_lock = LaneLock(self)
        await lane_lock.acquire()
        try:
            yield lane_lock
        finally:
            lane_lock.release()


@dataclass(slots=True)
class LaneLock:
    """One file's hold on the lane."""

    lane: Lane
    _acquired_at: float = 0.0
    _is_held: bool = False

    async def acquire(self) -> None:
        """Wait for the lane."""
        self.lane.waiting += 1
        try:
            await self.lane.lock.acquire()
        finally:
            self.lane.waiting -= 1
        self._is_held, self._acquired_at = True, time.monotonic()

    def release(self) -> None:
        """Release the lane to the next file; do nothing if this file does not hold it."""
        if self._is_held:
            self._is_held = False
            self.lane.lock.release()

    async def yield_to_waiting(self) -> None:
        """Yield to waiting files after `max_hold_seconds`; return once this file holds the lane again."""
        if self.lane.waiting and time.monotonic() - self._acquired_at >= self.lane.max_hold_seconds:
            self.release()
            await self.acquire()
