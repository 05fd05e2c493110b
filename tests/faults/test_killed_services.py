"""Services killed at random moments lose no object and publish nothing twice."""

import random
import secrets
import time

import pytest

from tests.support.oracle import lags_of
from tests.support.waiting import until

pytestmark = pytest.mark.faults

ROUNDS = 6
OBJECTS_A_ROUND = 167


def test_services_killed_at_random_moments_lose_no_object(system, oracle):
    seed = secrets.randbits(32)
    print(f"\nseed {seed}")
    chance = random.Random(seed)
    acknowledged = 0
    for each in range(ROUNDS):
        names = [f"{each}/{number:03}" for number in range(OBJECTS_A_ROUND)]
        victim = chance.choice(["ingest", "hasher"])
        with system.uploading(names) as dropped:
            time.sleep(chance.uniform(0.0, 1.0))  # a random moment, not a wait
            system.stack.kill(victim)
            system.stack.start(victim)
        acknowledged += len(dropped)
        if each % 2:  # let the consumer group admit the restarted service before the next kill
            until(lambda: not lags_of(system), 60, lambda: lags_of(system))
    oracle.over()
    assert acknowledged == ROUNDS * OBJECTS_A_ROUND
    oracle.judge()
