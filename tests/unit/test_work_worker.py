import asyncio

from shared.testing.work import MemoryQueue
from shared.work import RetryPolicy, Worker


async def test_a_cancellation_that_comes_with_the_wake_is_not_lost():
    worker = Worker(MemoryQueue("q"), None, concurrency=1, retries=RetryPolicy(), grace=0.1)
    running = asyncio.create_task(worker.run())
    for _ in range(20):  # turns of the loop, after which the worker sleeps until somebody wakes it
        await asyncio.sleep(0)
    worker._wake.set()
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=5)
    running.cancel()
    assert done
    assert running.cancelled()
