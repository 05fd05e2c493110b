"""Read ahead of a consumer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


async def prefetch(source: AsyncIterator[T], *, limit: int) -> AsyncGenerator[T, None]:
    """Yield the items of `source`, reading up to `limit` items ahead of the consumer."""
    queue: asyncio.Queue[T | _End] = asyncio.Queue(limit)

    async def read() -> None:
        failure = None
        try:
            async for item in source:
                await queue.put(item)
        except Exception as error:  # noqa: BLE001 - raised again in the consumer
            failure = error
        await queue.put(_End(failure))

    reader = asyncio.create_task(read())
    try:
        while not isinstance(item := await queue.get(), _End):
            yield item
        if item.failure is not None:
            raise item.failure
    finally:
        reader.cancel()
        await asyncio.wait((reader,))


@dataclass(frozen=True, slots=True)
class _End:
    failure: Exception | None
