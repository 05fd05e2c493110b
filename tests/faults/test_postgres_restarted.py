"""Postgres restarted under load: services wait, and no object is lost."""

import pytest

pytestmark = pytest.mark.faults


def test_postgres_restarts_under_load_lose_no_object(system, oracle):
    names = [f"{number:03}" for number in range(500)]
    with system.uploading(names, threads=4) as acknowledged:
        for _ in range(3):
            system.stack.restart("postgres")
        system.stack.kill("postgres")
        system.stack.start("postgres")
    oracle.over()
    assert acknowledged == set(names)
    oracle.judge()
