"""Kafka away: objects are taken all the same, and every one of them is told once it is back."""

import threading
import time

import pytest

pytestmark = pytest.mark.faults

FROZEN_SECONDS = 30


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_objects_arrive_while_kafka_is_away(world, oracle, end):
    getattr(world.stack, end)("kafka")
    names = [f"{number:03}" for number in range(300)]
    assert world.put_all(names, threads=64) == set(names)
    world.stack.start("kafka")
    oracle.over()
    oracle.judge()


def test_kafka_frozen_for_half_a_minute(world, oracle):
    frozen_at = time.monotonic()
    world.stack.pause("kafka")
    try:
        names = [f"{number:03}" for number in range(100)]
        acknowledged = set()
        dropping = threading.Thread(target=lambda: acknowledged.update(world.put_all(names, threads=64)))
        dropping.start()
        dropping.join(FROZEN_SECONDS)
        time.sleep(max(0, FROZEN_SECONDS - (time.monotonic() - frozen_at)))  # the length of the fault, not a wait
    finally:
        world.stack.resume("kafka")
    dropping.join()
    oracle.over()
    oracle.judge()
