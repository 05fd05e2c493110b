"""One stack for all faults, its services kept running; each test has a prefix, a world and an oracle of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etl import Users
from tests.support.etl_oracle import TableOracle
from tests.support.oracle import Oracle
from tests.support.world import World, opened

SETTINGS = {"ingest": {"doubt_seconds": 3, "sweep_interval": 0, "sweep_at_start": False}}
"""No sweep but those that a test asks for, or nobody knew what the lanes are worth."""


@pytest.fixture
def world(stack) -> Iterator[World]:
    with opened(stack, SETTINGS) as world:
        yield world


@pytest.fixture
def oracle(world, request) -> Oracle:
    return Oracle(world, request.node.name.removeprefix("test_").replace("_", " "))


@pytest.fixture
def users(world, tmp_path) -> Iterator[Users]:
    """Give a dataset of its own; a test says how many processes of etl work on it."""
    users = Users(world, Path(tmp_path))
    yield users
    users.stop()


@pytest.fixture
def tables(users, oracle) -> TableOracle:
    return TableOracle(users, oracle)
