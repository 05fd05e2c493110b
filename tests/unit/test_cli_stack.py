"""Container states from `docker compose ps --all --format json`."""

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
def test_running_and_completed_containers_are_healthy(found, state):
    assert found["state"] == state
    assert state in stack.HEALTHY_STATES


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
def test_failed_and_ended_containers_are_not_healthy(found):
    assert found["state"] not in stack.HEALTHY_STATES
