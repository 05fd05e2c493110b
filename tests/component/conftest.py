"""One service at a time, its outside in memory."""

import pytest
import stamina

from shared.testing.bus import connected
from tests.fakes.ingest import Ingest


@pytest.fixture(autouse=True)
def no_waiting():
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
async def ingest():
    service = Ingest()
    async with connected(service.wired):
        yield service
