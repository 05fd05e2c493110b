"""Services killed without a warning lose nothing and do nothing twice."""

import random
import secrets
import threading

import pytest

from tests.support.oracle import GROUPS
from tests.support.waiting import until

pytestmark = pytest.mark.faults

ROUNDS = 6
OBJECTS_A_ROUND = 167


def test_services_killed_at_random_moments(world, oracle):
    seed = secrets.randbits(32)
    print(f"\nseed {seed}")
    chance = random.Random(seed)
    acknowledged = set()
    for each in range(ROUNDS):
        names = [f"{each}/{number:03}" for number in range(OBJECTS_A_ROUND)]
        dropping = threading.Thread(target=lambda: acknowledged.update(world.put_all(names)))  # noqa: B023
        dropping.start()
        dropping.join(chance.uniform(0.0, 1.0))
        victim = chance.choice(["ingest", "hasher"])
        world.stack.kill(victim)
        world.stack.start(victim)
        dropping.join()
        if each % 2:  # else the next kill comes before the group has let the newcomer in
            until(lambda: not any(world.kafka.lag(GROUPS).values()), 60, lambda: world.kafka.lag(GROUPS))
    oracle.over()
    assert len(acknowledged) == ROUNDS * OBJECTS_A_ROUND
    oracle.judge()
