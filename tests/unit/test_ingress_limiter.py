"""Pools that clients share: no client takes all, waiting ones are served fairly, and refusals name the cause."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.ingress.adapters.limiter import CLIENT, ConcurrencyLimiter, PermitPool, Shares
from services.ingress.adapters.min_rate import MinRate
from services.ingress.adapters.permit_pools import pools
from services.ingress.core.problems import HttpProblem, status_of
from services.ingress.settings import IngressSettings

SLOW = IngressSettings(min_rate_bytes=100, min_rate_grace_seconds=10)


def limiter(permits, seconds=0.0):
    return ConcurrencyLimiter(PermitPool("things", permits, seconds, "PENSTOCK_THINGS", "TOO_MANY_STREAMS"))


async def hold(stack, pool, client):
    CLIENT.set(client)
    await stack.enter_async_context(pool.hold())


async def hold_until_full(stack, pool, client):
    held = 0
    while True:
        try:
            await hold(stack, pool, client)
        except HttpProblem as problem:
            return held, problem
        held += 1


@pytest.mark.parametrize(("permits", "share"), [(1, 1), (2, 1), (3, 2), (4, 2), (64, 32), (200, 100)])
async def test_one_client_gets_half_of_a_pool_and_at_least_one_permit(permits, share):
    async with AsyncExitStack() as stack:
        held, _ = await hold_until_full(stack, limiter(permits), "a")
    assert held == share


async def test_each_further_client_gets_half_of_the_free_permits():
    pool = limiter(64)
    async with AsyncExitStack() as stack:
        got = [(await hold_until_full(stack, pool, name))[0] for name in "abcdefgh"]
    assert got == [32, 16, 8, 4, 2, 1, 1, 0]


async def test_used_up_share_is_429_and_a_full_pool_503_and_both_name_the_setting():
    async with AsyncExitStack() as stack:
        pool = limiter(4)
        _, share = await hold_until_full(stack, pool, "a")
        for name in "bc":
            _, full = await hold_until_full(stack, pool, name)
    assert [(status_of(one), one.code) for one in (share, full)] == [
        (429, "SHARE_USED_UP"),
        (503, "TOO_MANY_STREAMS"),
    ]
    for one in (share, full):
        assert one.headers["retry-after"] == "5"
        assert "PENSTOCK_THINGS" in str(one)


async def test_free_permit_goes_to_the_client_with_the_fewest():
    pool, order = limiter(4, seconds=5.0), []

    async def wait(client):
        CLIENT.set(client)
        async with pool.hold():
            order.append(client)

    async with AsyncExitStack() as stack:
        for name in "aabc":
            await hold(stack, pool, name)
        waiting = [asyncio.create_task(wait(name)) for name in ("a", "a", "b", "d", "d")]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order[0] == "d"
    assert pool.held == 0


async def test_permits_are_free_again_after_waiting_requests_are_cancelled():
    pool = limiter(1, seconds=5.0)
    async with AsyncExitStack() as stack:
        await hold(stack, pool, "a")
        gone, late = (asyncio.create_task(hold(AsyncExitStack(), pool, name)) for name in "bc")
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
    late.cancel()  # in the very moment in which it was served
    await asyncio.gather(gone, late, return_exceptions=True)
    assert pool.held == 0
    async with AsyncExitStack() as stack:
        await hold(stack, pool, "d")


async def test_shares_become_equal_when_all_clients_compete():
    pool, served = limiter(30, seconds=60.0), {"a": 0, "b": 0, "c": 0}

    async def use(client):
        CLIENT.set(client)
        for _ in range(20):
            async with pool.hold():
                served[client] += 1
                most[client] = max(most[client], pool._shares.held_by(client))
                await asyncio.sleep(0)

    most = dict.fromkeys(served, 0)
    await asyncio.gather(*(use(name) for name in "abc" for _ in range(40)))
    assert set(served.values()) == {800}
    assert max(most.values()) <= 15


def test_clients_that_hold_nothing_are_forgotten():
    shares = Shares(10)
    for number in range(1000):
        shares.acquire(str(number))
        shares.release(str(number))
    assert (shares._held, shares.free) == ({}, 10)


@pytest.mark.parametrize(
    ("moves", "is_fast_enough"),
    [
        ([(10, 0)], True),
        ([(11, 0)], False),
        ([(20, 1), (20, 1)], False),
        ([(5, 500)] * 1000, True),
        ([(9, 1000)] * 1000, True),
        ([(5, 499)] * 1001, False),
        ([(1, 10**9), (11, 0)], False),
    ],
    ids=["grace", "past it", "one byte now and then", "just enough", "in bursts", "a little too slow", "fast long ago"],
)
def test_min_rate_is_averaged_over_the_grace(moves, is_fast_enough):
    rate = MinRate(SLOW)
    assert all(rate.record(seconds, size) for seconds, size in moves) is is_fast_enough


def test_without_min_rate_no_client_is_too_slow():
    rate = MinRate(IngressSettings(min_rate_bytes=0))
    assert rate.record(1e9, 0)
    assert rate.seconds_left == float("inf")


def test_every_pool_has_a_unique_name_and_a_bound():
    assert all(pool.permits > 0 and name == pool.name for name, pool in pools(IngressSettings()).items())
