"""Compute many digests of one stream in one read.

Each digest consumes the chunks from a queue of its own, so no digest waits for another. Short queues bound memory: the
fastest digest is at most `QUEUE_CHUNKS` chunks ahead of the slowest.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from typing_extensions import Buffer

from services.hasher.core.algorithms import ALGORITHMS, Digest

QUEUE_CHUNKS = 4
INLINE_BYTES = 128 << 10
"""Up to this size, passing bytes to a thread costs more than digesting them."""


def digest_bytes(data: Buffer, algorithms: Iterable[str]) -> dict[str, str]:
    """Return the digests of `data` in hex, by algorithm."""
    return {name: _hex_digest(ALGORITHMS[name](), data) for name in algorithms}


def _hex_digest(digest: Digest, data: Buffer) -> str:
    digest.update(data)
    return digest.hexdigest()


async def digest_small(data: Buffer, algorithms: Sequence[str]) -> dict[str, str]:
    """Return the digests of `data`; buffers above `INLINE_BYTES` go to a thread, so the event loop is not blocked."""
    if memoryview(data).nbytes <= INLINE_BYTES:
        return digest_bytes(data, algorithms)
    return await asyncio.to_thread(digest_bytes, data, algorithms)


async def digest_stream(
    chunks: AsyncIterator[Buffer],
    algorithms: Iterable[str],
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, str], int]:
    """Digest a stream, calling `on_bytes` with the bytes read so far. Return hex by algorithm, and size in bytes."""
    digests: Mapping[str, Digest] = {name: ALGORITHMS[name]() for name in algorithms}
    queues = [asyncio.Queue[Buffer | None](QUEUE_CHUNKS) for _ in digests]
    size = 0
    try:
        async with asyncio.TaskGroup() as group:
            for digest, queue in zip(digests.values(), queues, strict=True):
                group.create_task(_consume(digest, queue))
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


async def _consume(digest: Digest, queue: asyncio.Queue[Buffer | None]) -> None:
    while True:
        queued = [await queue.get()]
        while not queue.empty():
            queued.append(queue.get_nowait())
        await asyncio.to_thread(_update, digest, queued)
        if queued[-1] is None:
            return


def _update(digest: Digest, chunks: Iterable[Buffer | None]) -> None:
    """Digest all queued chunks in one thread call: each call costs as much as digesting a few kilobytes."""
    for chunk in chunks:
        if chunk is not None:
            digest.update(chunk)
