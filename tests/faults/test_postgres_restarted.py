"""Postgres restarted under load: everybody waits, nothing is lost."""

import pytest

pytestmark = pytest.mark.faults


def test_postgres_restarted_under_load(world, oracle):
    names = [f"{number:03}" for number in range(500)]
    with world.dropping(names, threads=4) as acknowledged:
        for _ in range(3):
            world.stack.restart("postgres")
        world.stack.kill("postgres")
        world.stack.start("postgres")
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()
