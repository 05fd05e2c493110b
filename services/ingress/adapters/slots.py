"""Places of which there are so many, for what takes memory or connections as long as it lasts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Slots:
    """So many places and no more; who finds none within `seconds` hears what `full` makes."""

    def __init__(self, count: int, *, seconds: float, full: Callable[[], Exception]) -> None:
        self._free = asyncio.Semaphore(count)
        self._seconds = seconds
        self._full = full

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise self._full() from None
        try:
            yield
        finally:
            self._free.release()
