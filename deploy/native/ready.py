"""Whether a server works, asked in its own protocol; each check raises NotReady with what is lacking."""

import asyncio
import http.client
import logging
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.native.ports import HOST
from deploy.native.process import NotReady

TIMEOUT_SECONDS = 5.0
Result = TypeVar("Result")


def run_apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` on a loop of its own in a thread of its own, so that callers may be in a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def kafka(port: int) -> None:
    """The broker takes clients and is in its own cluster's list, so that topics can be made."""
    listening(port)
    run_apart(_kafka(port))


async def _kafka(port: int) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{HOST}:{port}", request_timeout_ms=int(TIMEOUT_SECONDS * 1000))
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await admin.start()
            cluster = await admin.describe_cluster()
    except (KafkaError, OSError, TimeoutError) as error:
        raise NotReady(f"no answer to a Kafka client: {error}") from None
    finally:
        await admin.close()
    if not cluster["brokers"]:
        raise NotReady("the broker has not joined its cluster")


def postgres(dsn: str) -> None:
    """The database answers a query."""
    run_apart(_postgres(dsn))


async def _postgres(dsn: str) -> None:
    try:
        connection = await asyncpg.connect(dsn, timeout=TIMEOUT_SECONDS)
        try:
            await connection.execute("SELECT 1")
        finally:
            await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise NotReady(f"no answer to a query: {error}") from None


def minio(port: int) -> None:
    """The object store says that it is ready."""
    web(port, "/minio/health/ready")


def web(port: int, path: str) -> None:
    """The path answers 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"no answer on port {port}: {error}") from None
    finally:
        connection.close()
    if status != http.client.OK:
        raise NotReady(f"{path} answers {status}")


def listening(port: int) -> None:
    """Something listens on the port."""
    try:
        socket.create_connection((HOST, port), timeout=TIMEOUT_SECONDS).close()
    except OSError as error:
        raise NotReady(f"nothing listens on port {port}: {error}") from None
