"""Object store unavailable with work queued: services wait, and nothing becomes a dead letter."""

import time

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.faults

AWAY_SECONDS = 45
"""Longer than all attempts after an unknown error."""


def test_store_unavailable_with_queued_work_causes_no_dead_letter(system, oracle):
    names = {f"{number:03}" for number in range(100)}
    with system.without("hasher"):
        assert system.put_all(names) == names
        until(lambda: all(system.object_row(name) for name in names), 60, "ingest has published all")
        system.stack.stop("minio")
    time.sleep(AWAY_SECONDS)  # the length of the fault, not a wait
    assert not [name for name in names if (system.digest(name) or {"status": ""})["status"] == "failed"]
    system.stack.start("minio")
    oracle.over()
    oracle.judge()
