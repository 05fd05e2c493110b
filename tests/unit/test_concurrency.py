import asyncio
from contextlib import aclosing

import pytest

from shared.concurrency import map_concurrently, prefetch


async def numbers(count, asked, *, failing=False):
    try:
        for number in range(count):
            asked.append(number)
            yield number
        if failing:
            raise ValueError("no more")
    finally:
        asked.append("closed")


async def test_prefetch_keeps_order_and_reads_ahead():
    asked, taken = [], []
    async with aclosing(prefetch(numbers(10, asked), limit=3)) as given:
        async for one in given:
            taken.append(one)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len([number for number in asked if number != "closed"]) - len(taken) <= 4
            assert len(taken) > 1 or len(asked) > 1, "the next ones are read while one is worked on"
    assert taken == list(range(10))


async def test_source_error_is_raised_after_its_items():
    taken = []

    async def take():
        async for one in prefetch(numbers(3, [], failing=True), limit=1):
            taken.append(one)  # noqa: PERF401 - what was given before counts

    with pytest.raises(ValueError, match="no more"):
        await take()
    assert taken == [0, 1, 2]


async def test_closing_consumer_closes_source():
    asked = []
    source = numbers(1000, asked)
    async with aclosing(source), aclosing(prefetch(source, limit=2)) as given:
        async for _ in given:
            break
    assert len(asked) < 10
    assert asked[-1] == "closed"


async def test_results_come_in_order_with_at_most_the_limit_of_calls_at_a_time():
    running, most = 0, 0

    async def double(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - number):  # later items end first
            await asyncio.sleep(0)
        running -= 1
        return 2 * number

    assert await map_concurrently(double, range(10), limit=3) == [2 * number for number in range(10)]
    assert most == 3
    assert await map_concurrently(double, [], limit=3) == []


async def test_first_error_cancels_other_calls_and_is_raised_alone():
    ended = []

    async def job(number):
        try:
            if number == 1:
                raise ValueError("odd")
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="odd"):
        await map_concurrently(job, range(5), limit=2)
    assert sorted(ended) == [0, 1]


async def test_call_that_was_cancelled_alone_is_no_missing_result():
    async def job(_number):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await map_concurrently(job, [1], limit=2)
