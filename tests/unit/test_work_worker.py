import asyncio
from contextlib import asynccontextmanager

import pytest

from shared.errors import Outage
from shared.stages import StageProgress
from shared.testing.work import MemoryQueue
from shared.work import RetryPolicy, WorkCancelled, Worker

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
    queue, progress, away = MemoryQueue("q"), StageProgress(), True
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


async def test_cancelled_handler_ends_by_check_and_its_item_after_the_clean_up():
    queue, ended = MemoryQueue("q"), []

    async def handle(lease):
        lease.report({"pid": 7})
        await lease.cancelled.wait()
        with pytest.raises(WorkCancelled):
            lease.check()
        ended.append("handler")
        lease.check()

    async def on_cancel(lease):
        ended.append((queue.rows["one"].state, lease.progress))

    await queue.add("one", {})
    async with working(queue, handle, on_cancel=on_cancel):
        await until(lambda: queue.rows["one"].state == "running")
        await queue.cancel("one")
        await until(lambda: queue.rows["one"].state == "cancelled")
    assert ended == ["handler", ("running", {"pid": 7})]


async def test_cancelled_item_of_a_dead_holder_is_cleaned_up_and_not_run():
    queue, cleaned = MemoryQueue("q", lease_seconds=0), []

    async def handle(_lease):
        raise AssertionError

    async def on_cancel(lease):
        cleaned.append(lease.progress)

    await queue.add("one", {})
    (item,) = await queue.claim("dies")
    await queue.heartbeat(item, {"pid": 7})
    await queue.cancel("one")
    queue.lease_seconds = 30
    async with working(queue, handle, on_cancel=on_cancel):
        await until(lambda: queue.rows["one"].state == "cancelled")
    assert cleaned == [{"pid": 7}]


async def test_cancelled_item_whose_handler_meets_outages_ends():
    queue = MemoryQueue("q")

    async def handle(_lease):
        raise Outage("away")

    async def away():
        raise Outage("away")

    await queue.add("one", {})
    async with working(queue, handle, check=away):
        await until(lambda: queue.rows["one"].state == "running")
        await queue.cancel("one")
        await until(lambda: queue.rows["one"].state == "cancelled")


async def test_handler_that_reschedules_polls_without_a_lease_or_an_attempt():
    queue, polls = MemoryQueue("q"), []

    async def handle(lease):
        polls.append((lease.item.attempt, lease.progress))
        if len(polls) < 3:
            lease.reschedule(0.01, {"polls": len(polls)})

    await queue.add("one", {})
    async with working(queue, handle):
        await until(lambda: queue.rows["one"].state == "succeeded")
    assert polls == [(1, None), (1, {"polls": 1}), (1, {"polls": 2})]


@pytest.mark.parametrize("end", ["shutdown", "retry", "postponed"])
async def test_progress_that_no_heartbeat_stored_reaches_the_next_holder(end):
    queue = MemoryQueue("q")

    async def handle(lease):
        if lease.item.progress is None:
            lease.report({"bytes": 7})
            if end == "shutdown":
                await asyncio.Event().wait()
            raise ValueError("odd") if end == "retry" else Outage("away")

    await queue.add("one", {})
    async with working(queue, handle):
        if end == "shutdown":
            await until(lambda: queue.rows["one"].state == "running")
            await asyncio.sleep(0)
        else:
            await until(lambda: queue.rows["one"].state == "succeeded")
    assert queue.rows["one"].progress == {"bytes": 7}
