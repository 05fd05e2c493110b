"""The first notification wakes at once, many wake at a limited rate."""

import asyncio

from shared.wakeups import Wakeups


async def test_first_notification_wakes_at_once_and_last_one_later():
    woken: asyncio.Queue[float] = asyncio.Queue()
    wakeups = Wakeups(lambda: woken.put_nowait(asyncio.get_running_loop().time()), seconds=0.01)
    wakeups.notify()
    first = woken.get_nowait()
    for _ in range(1000):
        wakeups.notify()
    assert woken.empty()
    assert await woken.get() - first >= 0.01
    await asyncio.sleep(0.03)
    assert woken.empty()


async def test_many_notifications_wake_at_the_limited_rate():
    woken, loop = 0, asyncio.get_running_loop()

    def wake() -> None:
        nonlocal woken
        woken += 1

    wakeups, started = Wakeups(wake, seconds=0.02), loop.time()
    while loop.time() - started < 0.2:
        wakeups.notify()
        await asyncio.sleep(0)
    assert woken <= (loop.time() - started) / 0.02 + 1
