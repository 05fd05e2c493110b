"""The lane of large files: one is read at a time, and one that takes long lets the others have their turns."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

MAX_HOLD_SECONDS: Final = 5.0
"""How long a turn is while others wait."""


@dataclass(slots=True)
class Lane:
    """Files take turns in the order in which they come."""

    max_hold_seconds: float = MAX_HOLD_SECONDS
    waiting: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator["LaneLock"]:
        """Hold the lane while the block runs, but for the turns of others."""
        lane_lock = LaneLock(self)
        await lane_lock.acquire()
        try:
            yield lane_lock
        finally:
            lane_lock.release()


@dataclass(slots=True)
class LaneLock:
    """The turns of one file."""

    lane: Lane
    _acquired_at: float = 0.0
    _is_held: bool = False

    async def acquire(self) -> None:
        """Wait for a turn."""
        self.lane.waiting += 1
        try:
            await self.lane.lock.acquire()
        finally:
            self.lane.waiting -= 1
        self._is_held, self._acquired_at = True, time.monotonic()

    def release(self) -> None:
        """Let the next file begin; a turn that was not this one's stays whose it is."""
        if self._is_held:
            self._is_held = False
            self.lane.lock.release()

    async def yield_to_waiting(self) -> None:
        """Let the next file have its turn when this one's is over; return when it is this one's again."""
        if self.lane.waiting and time.monotonic() - self._acquired_at >= self.lane.max_hold_seconds:
            self.release()
            await self.acquire()
