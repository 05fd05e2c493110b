"""One running stack for all faults; each test has its own prefix, world and oracle."""

from collections.abc import Iterator

import pytest

from tests.support.etl_oracle import TableOracle
from tests.support.oracle import Oracle
from tests.support.serving import users
from tests.support.system import SystemUnderTest, running_system

__all__ = ["users"]

SETTINGS = {"ingest": {"doubt_seconds": 3, "sweep_interval": 0, "sweep_at_start": False}}
"""Sweep only when a test requests it, so that the lanes themselves are tested."""


@pytest.fixture
def system(stack) -> Iterator[SystemUnderTest]:
    with running_system(stack, SETTINGS) as system:
        yield system


@pytest.fixture
def oracle(system, request) -> Oracle:
    return Oracle(system, request.node.name.removeprefix("test_").replace("_", " "))


@pytest.fixture
def tables(users, oracle) -> TableOracle:
    return TableOracle(users, oracle)
