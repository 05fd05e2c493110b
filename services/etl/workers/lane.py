"""The lane of large files: one is read at a time, and one that takes long lets the others have their turns."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

TURN_SECONDS: Final = 5.0
"""How long a turn is while others wait."""


@dataclass(slots=True)
class Lane:
    """Files take turns in the order in which they come."""

    turn_seconds: float = TURN_SECONDS
    waiting: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def entered(self) -> AsyncIterator["Turns"]:
        """Hold the lane while the block runs, but for the turns of others."""
        turns = Turns(self)
        await turns.begin()
        try:
            yield turns
        finally:
            turns.end()


@dataclass(slots=True)
class Turns:
    """The turns of one file."""

    lane: Lane
    _began: float = 0.0
    _is_mine: bool = False

    async def begin(self) -> None:
        """Wait for a turn."""
        self.lane.waiting += 1
        try:
            await self.lane.lock.acquire()
        finally:
            self.lane.waiting -= 1
        self._is_mine, self._began = True, time.monotonic()

    def end(self) -> None:
        """Let the next file begin; a turn that was not this one's stays whose it is."""
        if self._is_mine:
            self._is_mine = False
            self.lane.lock.release()

    async def share(self) -> None:
        """Let the next file have its turn when this one's is over; return when it is this one's again."""
        if self.lane.waiting and time.monotonic() - self._began >= self.lane.turn_seconds:
            self.end()
            await self.begin()
