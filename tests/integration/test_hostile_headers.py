"""A header name that is no text, on the real broker: one dead letter, and its neighbours are read."""

import asyncio
import os
import subprocess
import sys

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

pytestmark = pytest.mark.integration

PRODUCE = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

class Name(str):
    def encode(self, *_args):
        return bytes([255, 254])

async def main():
    async with AIOKafkaProducer(bootstrap_servers=sys.argv[1]) as producer:
        for headers in ([], [(Name("x"), b"v")], []):
            await producer.send_and_wait("objects.changed.v1", b"hostile", partition=0, headers=headers)

asyncio.run(main())
"""


async def test_every_record_around_a_hostile_header_is_read(stack):
    kafka = stack.env["PENSTOCK_KAFKA_BOOTSTRAP"]
    # the compiled parser takes no such name when it writes, either
    env = os.environ | {"AIOKAFKA_NO_EXTENSIONS": "1"}
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", PRODUCE, kafka], env=env, check=True)
    await asyncio.to_thread(stack.start_service, "hasher")
    names = []
    async with (
        AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest") as dead_letters,
        asyncio.timeout(60),
    ):
        dead_letters.assign([TopicPartition("objects.changed.v1.hasher.dlq", 0)])
        while len(names) < 3:
            dead_letter = await dead_letters.getone()
            if dead_letter.value == b"hostile":
                names.append([name for name, _ in dead_letter.headers if not name.startswith("dlq_")])
    assert sum("\\xff\\xfe" in one for one in names) == 1
