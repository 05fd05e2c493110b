"""Without notification rules a sweep finds changes, and ingest restores the rules at start."""

import pytest

from shared.provision.buckets import LANES
from tests.support.waiting import until
from tests.support.world import rules_removed

pytestmark = pytest.mark.faults


def test_sweep_finds_changes_without_notifications(world, oracle):
    names = [f"{number:03}" for number in range(200)]
    world.put_all(names[:20])
    oracle.judge()
    with world.without("ingest"), rules_removed(world, "inbox"):  # ingest would restore the rules
        world.put_all(names[20:])
        for name in names[:10]:
            world.delete(name)
        world.put(names[10], b"overwritten")
    oracle.over()
    oracle.sweep()
    oracle.judge()
    assert (oracle.sweeps[0]["missed"], oracle.sweeps[0]["vanished"]) == (181, 10)


def test_ingest_restores_the_rules_at_start(world):
    world.s3.put_bucket_notification_configuration(Bucket="inbox", NotificationConfiguration={})
    world.stack.restart("ingest")
    until(lambda: lanes_of(world, "inbox") == set(LANES.values()), 60, lambda: lanes_of(world, "inbox"))
    world.put("one")
    world.hashed("one")


def lanes_of(world, bucket):
    rules = world.s3.get_bucket_notification_configuration(Bucket=bucket)
    return {rule["QueueArn"] for rule in rules.get("QueueConfigurations", ())}
