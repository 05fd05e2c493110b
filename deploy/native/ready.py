"""Readiness checks of servers in their own protocols; each raises NotReady with the reason."""

import asyncio
import http.client
import logging
import socket
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import asyncpg
from aiokafka.errors import KafkaError

from deploy.native import ports
from deploy.native.ports import HOST
from deploy.native.process import NotReady
from shared.environment import PREFIX
from shared.errors import PenstockError
from shared.kafka import KafkaRefused
from shared.provision.kafka_users import set_password
from shared.provision.topics import open_admin
from shared.settings import Settings

TIMEOUT_SECONDS = 5.0
Result = TypeVar("Result")


def run_in_thread(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` on a new event loop in a new thread, so that callers may run in a loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def kafka(env: Mapping[str, str]) -> None:
    """Check that the broker accepts the operator's client and is in its own cluster, so that topics can be created."""
    port = int(env[f"{PREFIX}KAFKA_PORT"])
    listening(port)
    run_in_thread(_kafka(Settings.of(env, kafka_bootstrap=f"{HOST}:{port}"), port))


async def _kafka(settings: Settings, port: int) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), open_admin(settings) as admin:
            cluster = await admin.describe_cluster()
    except KafkaRefused as refused:
        if settings.kafka_user:
            await _set_operator_password(settings, port)
        raise NotReady(str(refused)) from None
    except (PenstockError, KafkaError, OSError, TimeoutError) as error:
        raise NotReady(f"no answer to a Kafka client: {error}") from None
    if not cluster["brokers"]:
        raise NotReady("the broker has not joined its cluster")


async def _set_operator_password(settings: Settings, port: int) -> None:
    """Set the operator's SCRAM password, with the PLAIN login of the broker's own file.

    PLAIN sends the password, so check first that a program of this user listens: any user may take the port while the
    broker is down.
    """
    if not ports.is_ours(port):
        raise NotReady(f"port {port} is held by a program of another user")
    plain = settings.model_copy(update={"kafka_mechanism": "PLAIN"})
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await set_password(plain, settings.kafka_user, settings.kafka_password, settings.kafka_mechanism)
    except (PenstockError, KafkaError, OSError, TimeoutError) as error:
        raise NotReady(f"the SCRAM password of the operator cannot be set: {error}") from None


def postgres(dsn: str) -> None:
    """Check that the database answers a query."""
    run_in_thread(_postgres(dsn))


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
    """Check that the object store serves buckets and users; its `health/ready` is 200 before it has read them."""
    web(port, "/minio/health/cluster")


def web(port: int, path: str) -> None:
    """Check that the path answers 200."""
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
    """Check that a program listens on the port."""
    try:
        socket.create_connection((HOST, port), timeout=TIMEOUT_SECONDS).close()
    except OSError as error:
        raise NotReady(f"nothing listens on port {port}: {error}") from None
