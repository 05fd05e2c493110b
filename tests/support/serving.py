"""Fixtures of the tiers whose services a module lets run; a tier's conftest imports them."""

from collections.abc import Iterator

import pytest

from tests.support.etl import Users
from tests.support.system import SystemUnderTest, running_system


@pytest.fixture(scope="module")
def stopped_at_the_end(stack) -> Iterator[None]:
    """Stop the services that a module let run."""
    yield
    for name in ("ingress", "etl", "ingest", "hasher"):
        if name in stack.processes:
            stack.stop(name)


@pytest.fixture
def system(stack, stopped_at_the_end, request) -> Iterator[SystemUnderTest]:  # noqa: ARG001 - it ends after this
    """Yield a system under test for one test; its services run with the module's SETTINGS, if any."""
    with running_system(stack, getattr(request.module, "SETTINGS", {})) as system:
        yield system


@pytest.fixture
def users(system, tmp_path) -> Iterator[Users]:
    """Yield a new dataset; a test starts the etl processes that load it."""
    users = Users(system, tmp_path)
    yield users
    users.stop()
