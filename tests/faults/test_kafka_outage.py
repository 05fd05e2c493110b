"""Kafka unavailable: uploads still succeed, and every object is published once Kafka is back."""

import time

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.faults

FROZEN_SECONDS = 30


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_objects_uploaded_while_kafka_is_away_are_hashed_afterwards(system, oracle, end):
    """Upload all at once: while Kafka is away, the store answers PUTs late and one after another."""
    names = [f"{number:03}" for number in range(300)]
    with system.without("kafka", end=end), system.uploading(names, threads=300) as acknowledged:
        until(lambda: len(oracle.listed()) == len(names), 60, lambda: f"{len(oracle.listed())} stored")
        system.stack.start("kafka")
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()


def test_objects_uploaded_while_kafka_is_frozen_are_hashed_afterwards(system, oracle):
    names = [f"{number:03}" for number in range(100)]
    system.stack.pause("kafka")
    with system.uploading(names, threads=100) as acknowledged:
        time.sleep(FROZEN_SECONDS)  # the length of the fault, not a wait
        system.stack.resume("kafka")
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()
