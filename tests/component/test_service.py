"""A service stops on a signal, whatever it waits for."""

import asyncio

from services import catalogue

CLOSED_PORT = "127.0.0.1:1"
"""A port at which nothing listens."""


async def test_stop_cancels_a_service_that_waits_for_kafka():
    service = catalogue.build("hasher", kafka_bootstrap=CLOSED_PORT, health_port=0)
    serving = asyncio.create_task(service.serve())
    await asyncio.sleep(0)  # it begins
    service.stop()
    assert await asyncio.wait_for(serving, 10) == 0
