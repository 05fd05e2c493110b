"""Fixtures of the tiers whose services a module lets run; a tier's conftest imports them."""

from collections.abc import Iterator

import pytest

from tests.support.etl import Users
from tests.support.world import World, opened


@pytest.fixture(scope="module")
def stopped_at_the_end(stack) -> Iterator[None]:
    """Stop the services that a module let run."""
    yield
    for name in ("ingress", "etl", "ingest", "hasher"):
        if name in stack.processes:
            stack.stop(name)


@pytest.fixture
def world(stack, stopped_at_the_end, request) -> Iterator[World]:  # noqa: ARG001 - it ends after this
    """Give a world of its own to each test; its services run with the module's SETTINGS, where it has any."""
    with opened(stack, getattr(request.module, "SETTINGS", {})) as world:
        yield world


@pytest.fixture
def users(world, tmp_path) -> Iterator[Users]:
    """Yield a new dataset; a test starts the etl processes that load it."""
    users = Users(world, tmp_path)
    yield users
    users.stop()
