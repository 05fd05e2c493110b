"""Reading ahead of a consumer."""

import asyncio
from contextlib import aclosing

import pytest

from services.etl.core.prefetch import prefetch


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
