"""Consumer group members join and leave under load: each record has one effect."""

import time

import pytest

pytestmark = pytest.mark.faults

OBJECTS = 800
ROUNDS = 5
EVERY_SECONDS = 5.0


def test_rebalances_under_load_lose_and_duplicate_nothing(system, oracle):
    names = [f"{number:03}" for number in range(OBJECTS)]
    with system.uploading(names, threads=2) as acknowledged:
        for each in range(ROUNDS):
            begun = time.monotonic()
            for service in ("ingest", "hasher"):
                if each % 2:
                    (system.stack.kill if each == 1 else system.stack.stop)(f"{service}-2")
                else:
                    system.serve(service, 2)
            time.sleep(max(0.0, EVERY_SECONDS - (time.monotonic() - begun)))  # the rhythm of the fault, not a wait
        for service in ("ingest", "hasher"):
            system.stack.kill(f"{service}-2")
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()
