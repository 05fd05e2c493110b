"""Many digests of one stream in one read.

Every digest has its own queue and takes the chunks at its own pace: no barrier, so the set is as fast as its slowest
member. The queues are short, which bounds memory: the fastest digest is at most `QUEUE_CHUNKS` chunks ahead.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from typing_extensions import Buffer

from services.hasher.core.algorithms import ALGORITHMS, Digest

QUEUE_CHUNKS = 4
INLINE_BYTES = 128 << 10
"""Below this, handing bytes to a thread costs more than digesting them."""


def digest_bytes(data: Buffer, algorithms: Iterable[str]) -> dict[str, str]:
    """Digest what is in memory."""
    return {name: _one(ALGORITHMS[name](), data) for name in algorithms}


def _one(digest: Digest, data: Buffer) -> str:
    digest.update(data)
    return digest.hexdigest()


async def digest_small(data: Buffer, algorithms: Sequence[str]) -> dict[str, str]:
    """Digest what is in memory without holding up the loop."""
    if memoryview(data).nbytes <= INLINE_BYTES:
        return digest_bytes(data, algorithms)
    return await asyncio.to_thread(digest_bytes, data, algorithms)


async def digest_stream(
    chunks: AsyncIterator[Buffer],
    algorithms: Iterable[str],
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, str], int]:
    """Digest a stream; `on_bytes` is told the bytes read so far. Return hex by algorithm, and the size in bytes."""
    digests: Mapping[str, Digest] = {name: ALGORITHMS[name]() for name in algorithms}
    queues = [asyncio.Queue[Buffer | None](QUEUE_CHUNKS) for _ in digests]
    size = 0
    try:
        async with asyncio.TaskGroup() as group:
            for digest, queue in zip(digests.values(), queues, strict=True):
                group.create_task(_drain(digest, queue))
            async for chunk in chunks:
                for queue in queues:
                    await queue.put(chunk)
                size += memoryview(chunk).nbytes
                on_bytes(size)
            for queue in queues:
                await queue.put(None)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return {name: digest.hexdigest() for name, digest in digests.items()}, size


async def _drain(digest: Digest, queue: asyncio.Queue[Buffer | None]) -> None:
    while True:
        waiting = [await queue.get()]
        while not queue.empty():
            waiting.append(queue.get_nowait())
        await asyncio.to_thread(_update, digest, waiting)
        if waiting[-1] is None:
            return


def _update(digest: Digest, chunks: Iterable[Buffer | None]) -> None:
    """Take in all that waits in one go: every trip to a thread costs as much as digesting some kilobytes."""
    for chunk in chunks:
        if chunk is not None:
            digest.update(chunk)
