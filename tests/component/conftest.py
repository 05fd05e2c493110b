"""One service at a time, its outside in memory."""

from contextlib import asynccontextmanager

import pytest
import stamina

from services.hasher.settings import HasherSettings
from shared.testing.bus import connected
from tests.fakes.hasher import Hasher
from tests.fakes.ingest import Ingest
from tests.fakes.ingress import Ingress


@pytest.fixture(autouse=True)
def no_waiting():
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
async def ingest():
    service = Ingest()
    async with connected(service.wired):
        yield service


@asynccontextmanager
async def hashing(**settings):
    service = Hasher(HasherSettings(**{"hasher_wait_for_object": 0.0} | settings))
    async with connected(service.wired):
        yield service


@pytest.fixture
async def hasher():
    async with hashing() as service:
        yield service


@pytest.fixture
async def large_hasher():
    async with hashing(hasher_large_bytes=10, hasher_chunk_bytes=7) as service:
        yield service


@pytest.fixture
async def delayed_hasher():
    async with hashing(hasher_delay=0.001) as service:
        yield service


@pytest.fixture
async def late_hasher():
    async with hashing(hasher_wait_for_object=5.0) as service:
        yield service


@pytest.fixture
async def deleting_hasher():
    async with hashing(hasher_delete_after=True) as service:
        yield service


@pytest.fixture
def ingress():
    return Ingress()


@pytest.fixture
async def client(ingress):
    async with ingress.client() as client:
        yield client
