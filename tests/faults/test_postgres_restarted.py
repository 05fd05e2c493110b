"""Postgres restarted under load: everybody waits, nothing is lost."""

import threading

import pytest

pytestmark = pytest.mark.faults


def test_postgres_restarted_under_load(world, oracle):
    names = [f"{number:03}" for number in range(500)]
    acknowledged = set()
    dropping = threading.Thread(target=lambda: acknowledged.update(world.put_all(names, threads=4)))
    dropping.start()
    for _ in range(3):
        dropping.join(0.5)
        world.stack.restart("postgres")
    world.stack.kill("postgres")
    world.stack.start("postgres")
    dropping.join()
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()
