"""Nobody tells of new objects: a sweep finds them, those that went too, and the rules come back by themselves."""

import pytest

from shared.provision.buckets import LANES
from tests.support.waiting import until
from tests.support.world import rules_removed

pytestmark = pytest.mark.faults


def test_what_was_never_notified_is_found_by_a_sweep(world, oracle):
    names = [f"{number:03}" for number in range(200)]
    world.put_all(names[:20])
    oracle.judge()
    with world.without("ingest"), rules_removed(world, "inbox"):  # for ingest puts them back
        world.put_all(names[20:])
        for name in names[:10]:
            world.delete(name)
        world.put(names[10], b"overwritten")
    oracle.over()
    oracle.sweep()
    oracle.judge()
    assert (oracle.sweeps[0]["missed"], oracle.sweeps[0]["vanished"]) == (181, 10)


def test_ingest_puts_the_rules_back_when_it_starts(world):
    world.s3.put_bucket_notification_configuration(Bucket="inbox", NotificationConfiguration={})
    world.stack.restart("ingest")
    until(lambda: lanes_of(world, "inbox") == set(LANES.values()), 60, lambda: lanes_of(world, "inbox"))
    world.put("one")
    world.hashed("one")


def lanes_of(world, bucket):
    rules = world.s3.get_bucket_notification_configuration(Bucket=bucket)
    return {rule["QueueArn"] for rule in rules.get("QueueConfigurations", ())}
