"""Kafka loses its data: a requested sweep republishes unread facts from the buckets."""

import shutil

import pytest

from shared.events import SweepRequested
from tests.support.waiting import until

pytestmark = pytest.mark.faults

HALF = 50


def test_sweep_with_retell_republishes_facts_after_kafka_lost_its_data(world, oracle):
    names = [f"{number:03}" for number in range(2 * HALF)]
    world.put_all(names[:HALF])
    for name in names[:HALF]:
        world.hashed(name)
    with world.without("hasher"):
        world.put_all(names[HALF:])
        until(lambda: all(world.told(name) for name in names), 60, "ingest has published all")
        with world.without("kafka", end="kill"):
            shutil.rmtree(world.stack.state_dir / "kafka" / "data")
        world.stack.setup()
    oracle.over()
    republish(world)
    oracle.judge()


def republish(world):
    """Do what `penstock sweep --republish` does, for the test's own objects."""
    request = SweepRequested(sweep_id=world.prefix, prefix=world.prefix, retell=True)
    world.kafka.send(request.topic.name, request.model_dump_json().encode(), request.record_key.encode())
