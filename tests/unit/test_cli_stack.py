"""What runs in containers, as `docker compose ps --all --format json` tells it."""

import pytest

from services.cli.adapters import stack


def container(service, state, health="", code=0):
    return stack._container({"Service": service, "State": state, "Health": health, "ExitCode": code, "Name": "x"})


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (container("hasher", "running", "healthy"), "healthy"),
        (container("kafka", "running"), "running"),
        (container("setup", "exited"), "done"),
    ],
)
def test_what_runs_and_what_has_done_its_work_is_well(found, state):
    assert found["state"] == state
    assert state in stack.WELL


@pytest.mark.parametrize(
    "found",
    [
        container("setup", "exited", code=1),
        container("hasher", "exited"),
        container("hasher", "running", "unhealthy"),
        container("hasher", "running", "starting"),
        container("kafka", "restarting"),
    ],
)
def test_a_set_up_that_failed_and_a_service_that_ended_are_not(found):
    assert found["state"] not in stack.WELL
