"""The stack without Docker does what the rest of the tests rely on."""

import asyncio
import socket

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.native import ports, ready
from deploy.native.process import NotReady
from deploy.native.stack import Stack
from tests.support.s3 import s3_client

pytestmark = pytest.mark.integration


async def test_every_server_answers_its_own_client(servers):
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.env["PENSTOCK_KAFKA_BOOTSTRAP"])
    await admin.start()
    assert len((await admin.describe_cluster())["brokers"]) == 1
    await admin.close()
    connection = await asyncpg.connect(servers.env["PENSTOCK_POSTGRES_DSN"])
    assert await connection.fetchval("SELECT current_database()") == "penstock"
    await connection.close()
    assert "Buckets" in s3_client(servers.env).list_buckets()


@pytest.mark.parametrize("name", ["kafka", "minio", "postgres"])
def test_a_killed_server_comes_back_with_a_new_process(servers, name):
    before = servers.pid(name)
    servers.kill(name)
    assert servers.pid(name) is None
    servers.start(name)
    assert servers.pid(name) not in (None, before)


async def test_servers_may_be_restarted_from_a_thread_of_an_async_test(servers):
    await asyncio.to_thread(servers.restart, "postgres")
    connection = await asyncpg.connect(servers.env["PENSTOCK_POSTGRES_DSN"])
    await connection.close()


def test_a_paused_server_stops_answering_until_it_is_resumed(servers, monkeypatch):
    monkeypatch.setattr(ready, "TIMEOUT_SECONDS", 1.0)
    servers.pause("minio")
    with pytest.raises(NotReady):
        servers.processes["minio"].check()
    servers.resume("minio")
    servers.processes["minio"].check()


def test_a_health_port_that_somebody_took_is_not_given_again(servers):
    stack = Stack(servers.env, [])
    first, second = stack._health_port("one"), stack._health_port("two")
    assert (stack._health_port("one"), first == second) == (first, False)
    with socket.create_server((ports.HOST, first)):
        assert stack._health_port("one") not in {first, second}
