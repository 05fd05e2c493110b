"""Kafka away: objects are taken all the same, and every one of them is told once it is back."""

import time

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.faults

FROZEN_SECONDS = 30


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_objects_arrive_while_kafka_is_away(world, oracle, end):
    """All at a time: while Kafka is away, the store answers a PUT late, and one after the other."""
    names = [f"{number:03}" for number in range(300)]
    with world.without("kafka", end=end), world.dropping(names, threads=300) as acknowledged:
        until(lambda: len(oracle.listed()) == len(names), 60, lambda: f"{len(oracle.listed())} stored")
        world.stack.start("kafka")
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()


def test_kafka_frozen_for_half_a_minute(world, oracle):
    names = [f"{number:03}" for number in range(100)]
    world.stack.pause("kafka")
    with world.dropping(names, threads=100) as acknowledged:
        time.sleep(FROZEN_SECONDS)  # the length of the fault, not a wait
        world.stack.resume("kafka")
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()
