"""Reading ahead: the next is on its way while somebody works on this one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


async def ahead(source: AsyncIterator[T], *, most: int) -> AsyncGenerator[T, None]:
    """Give what `source` gives, which is asked for up to `most` more while somebody works on one."""
    queue: asyncio.Queue[T | _End] = asyncio.Queue(most)

    async def fill() -> None:
        failure = None
        try:
            async for one in source:
                await queue.put(one)
        except Exception as error:  # noqa: BLE001 - whoever takes from the queue hears of it
            failure = error
        await queue.put(_End(failure))

    filling = asyncio.create_task(fill())
    try:
        while not isinstance(one := await queue.get(), _End):
            yield one
        if one.failure is not None:
            raise one.failure
    finally:
        filling.cancel()
        await asyncio.wait((filling,))


@dataclass(frozen=True, slots=True)
class _End:
    failure: Exception | None
