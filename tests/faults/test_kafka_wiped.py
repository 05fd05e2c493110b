"""Kafka loses its data: facts that nobody had read are told again from the buckets, when somebody asks for it."""

import shutil

import pytest

from shared.events import SweepRequested
from tests.support.waiting import until

pytestmark = pytest.mark.faults

HALF = 50


def test_kafka_loses_its_data(world, oracle):
    names = [f"{number:03}" for number in range(2 * HALF)]
    world.put_all(names[:HALF])
    for name in names[:HALF]:
        world.hashed(name)
    with world.without("hasher"):
        world.put_all(names[HALF:])
        until(lambda: all(world.told(name) for name in names), 60, "ingest has told all")
        with world.without("kafka", end="kill"):
            shutil.rmtree(world.stack.state_dir / "kafka" / "data")
        world.stack.setup()
    oracle.over()
    retell(world)
    oracle.judge()


def retell(world):
    """Do what `penstock sweep --retell` does, for the test's own objects."""
    wanted = SweepRequested(sweep_id=world.prefix, prefix=world.prefix, retell=True)
    world.kafka.send(wanted.topic.name, wanted.model_dump_json().encode(), wanted.record_key.encode())
