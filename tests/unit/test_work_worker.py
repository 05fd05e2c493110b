import asyncio
from contextlib import asynccontextmanager

import pytest

from shared.errors import Outage
from shared.progress import Progress
from shared.testing.work import MemoryQueue
from shared.work import RetryPolicy, Worker

SOON = RetryPolicy(outage_wait_max=0.01, outage_seconds=0.05, wait_max=0.05)


async def test_cancellation_that_coincides_with_a_wakeup_stops_the_worker():
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


@asynccontextmanager
async def working(queue, handle, **options):
    worker = Worker(queue, handle, concurrency=1, retries=SOON, grace=0.1, **options)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what is awaited is in a fake that wakes nobody
        await asyncio.sleep(0.005)


async def test_item_with_outages_of_its_own_is_postponed_and_the_next_one_completes():
    queue, stuck = MemoryQueue("q"), True

    async def handle(lease):
        if lease.item.key == "stuck" and stuck:
            raise Outage("the object store cannot read it")

    await queue.add("stuck", {})
    await queue.add("fine", {})
    async with working(queue, handle):
        await until(lambda: queue.rows["fine"].state == "succeeded")
        row = queue.rows["stuck"]
        assert (row.state in {"pending", "running"}, row.attempt <= 1) == (True, True)
        stuck = False
        await until(lambda: row.state == "succeeded")
    assert row.attempt == 1


async def test_item_is_retried_in_place_while_the_servers_are_down():
    queue, progress, away = MemoryQueue("q"), Progress(), True
    tries = []

    async def handle(_lease):
        tries.append(1)
        if away:
            raise Outage("away")

    async def check():
        if away:
            raise Outage("away")

    await queue.add("one", {})
    async with working(queue, handle, check=check, progress=progress):
        await until(lambda: len(tries) > 12)
        assert (queue.rows["one"].state, progress.stall().stage) == ("running", "q")
        away = False
        await until(lambda: queue.rows["one"].state == "succeeded")
    assert progress.stall().seconds == 0


@pytest.mark.parametrize(("times", "seconds"), [(0, 5), (1, 10), (3, 40), (1000, 300)])
def test_wait_of_postponed_item_doubles_up_to_a_limit(times, seconds):
    assert RetryPolicy().outage_wait(times) == seconds
