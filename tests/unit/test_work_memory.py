"""The work queue in memory, by the suite of the one in Postgres."""

import pytest

from shared.testing.work import MemoryQueue
from tests.support.work_queue import QueueConformance


class TestMemoryQueue(QueueConformance):
    @pytest.fixture
    def queue(self):
        return MemoryQueue("q")

    @pytest.fixture
    def pairs(self):
        return MemoryQueue("q", per_group=2)
