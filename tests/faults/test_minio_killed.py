"""MinIO killed during uploads: every acknowledged object is hashed after one sweep."""

import random
import secrets
import time

import pytest

pytestmark = pytest.mark.faults

ROUNDS = 5
OBJECTS = 200


def test_acknowledged_uploads_survive_a_killed_minio(system, oracle):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    acknowledged = set()
    for each in range(ROUNDS):
        names = [f"{each}/{number:03}" for number in range(OBJECTS)]
        with system.uploading(names, threads=8) as dropped:
            time.sleep(chance.uniform(0.2, 0.8))  # a random moment, not a wait
            system.stack.kill("minio")
        system.stack.start("minio")
        acknowledged |= dropped
    oracle.over()
    oracle.sweep()
    oracle.judge()
    print(f"{len(acknowledged)} of {ROUNDS * OBJECTS} acknowledged")
    held = {key.removeprefix(system.prefix) for _, key in oracle.listed()}
    assert acknowledged <= held, acknowledged - held
