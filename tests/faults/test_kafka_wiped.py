"""Kafka loses its data: a requested sweep republishes unread facts from the buckets."""

import shutil

import pytest

from shared.events import SweepRequested
from tests.support.waiting import until

pytestmark = pytest.mark.faults

HALF = 50


def test_sweep_with_retell_republishes_facts_after_kafka_lost_its_data(system, oracle):
    names = [f"{number:03}" for number in range(2 * HALF)]
    system.put_all(names[:HALF])
    for name in names[:HALF]:
        system.hashed(name)
    with system.without("hasher"):
        system.put_all(names[HALF:])
        until(lambda: all(system.object_row(name) for name in names), 60, "ingest has published all")
        with system.without("kafka", end="kill"):
            shutil.rmtree(system.stack.state_dir / "kafka" / "data")
        system.stack.setup()
    oracle.over()
    republish(system)
    oracle.judge()


def republish(system):
    """Do what `penstock sweep --republish` does, for the test's own objects."""
    request = SweepRequested(sweep_id=system.prefix, prefix=system.prefix, retell=True)
    system.kafka.send(request.topic.name, request.model_dump_json().encode(), request.record_key.encode())
