"""Bounded concurrency: map over items, and read ahead of a consumer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def map_concurrently(job: Callable[[T], Awaitable[R]], items: Iterable[T], *, limit: int) -> list[R]:
    """Return the results of `job` in the order of `items`, with at most `limit` calls at a time.

    The first error cancels the other calls and is raised.
    """
    items = list(items)
    waiting, results = iter(enumerate(items)), dict[int, R]()

    async def work() -> None:
        for index, item in waiting:
            results[index] = await job(item)

    try:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(min(limit, len(items)))]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    for worker in workers:
        worker.result()  # TaskGroup ignores a cancelled member, whose item is unfinished
    return [results[index] for index in range(len(items))]


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
