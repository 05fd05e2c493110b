"""MinIO killed during uploads: whatever it acknowledged is hashed, after one sweep at the latest."""

import random
import secrets
import threading

import pytest

pytestmark = pytest.mark.faults

ROUNDS = 5
OBJECTS = 200


def test_minio_killed_during_uploads(world, oracle):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    acknowledged = set()
    for each in range(ROUNDS):
        names = [f"{each}/{number:03}" for number in range(OBJECTS)]
        dropping = threading.Thread(target=lambda: acknowledged.update(world.put_all(names, threads=8)))  # noqa: B023
        dropping.start()
        dropping.join(chance.uniform(0.2, 0.8))
        world.stack.kill("minio")
        dropping.join()
        world.stack.start("minio")
    oracle.over()
    oracle.sweep()
    oracle.judge()
    held = {key.removeprefix(world.prefix) for _, key in oracle.listed()}
    assert acknowledged <= held, acknowledged - held
