"""Postgres restarted under load: services wait, and no object is lost."""

import pytest

pytestmark = pytest.mark.faults


def test_postgres_restarts_under_load_lose_no_object(world, oracle):
    names = [f"{number:03}" for number in range(500)]
    with world.dropping(names, threads=4) as acknowledged:
        for _ in range(3):
            world.stack.restart("postgres")
        world.stack.kill("postgres")
        world.stack.start("postgres")
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()
