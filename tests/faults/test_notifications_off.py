"""Without notification rules a sweep finds changes, and ingest restores the rules at start."""

import pytest

from shared.provision.buckets import LANES
from tests.support.system import rules_removed
from tests.support.waiting import until

pytestmark = pytest.mark.faults


def test_sweep_finds_changes_without_notifications(system, oracle):
    names = [f"{number:03}" for number in range(200)]
    system.put_all(names[:20])
    oracle.judge()
    with system.without("ingest"), rules_removed(system, "inbox"):  # ingest would restore the rules
        system.put_all(names[20:])
        for name in names[:10]:
            system.delete(name)
        system.put(names[10], b"overwritten")
    oracle.over()
    oracle.sweep()
    oracle.judge()
    assert (oracle.sweeps[0]["missed"], oracle.sweeps[0]["vanished"]) == (181, 10)


def test_ingest_restores_the_rules_at_start(system):
    system.s3.put_bucket_notification_configuration(Bucket="inbox", NotificationConfiguration={})
    system.stack.restart("ingest")
    until(lambda: lanes_of(system, "inbox") == set(LANES.values()), 60, lambda: lanes_of(system, "inbox"))
    system.put("one")
    system.hashed("one")


def lanes_of(system, bucket):
    rules = system.s3.get_bucket_notification_configuration(Bucket=bucket)
    return {rule["QueueArn"] for rule in rules.get("QueueConfigurations", ())}
