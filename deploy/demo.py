"""`make demo`: drops a few files into a bucket with a plain S3 client and follows them, live."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import boto3
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from blake3 import blake3
from botocore.config import Config
from botocore.session import Session

from deploy.native import dotenv, services
from deploy.native.install import CHECKOUT
from shared import kafka
from shared.settings import Settings
from shared.storage.admin_client import NO_PROXIES, isolate
from shared.topics import OBJECTS_CHANGED, OBJECTS_HASHED

BUCKET: Final = "inbox"
TIMEOUT_SECONDS: Final = 60.0
USERS_SECONDS: Final = 20.0
Record = ConsumerRecord[bytes, bytes]
TICK, CROSS = "\N{CHECK MARK}", "\N{BALLOT X}"

NEXT: Final = """\

What to try next:
  .venv/bin/penstock put README.md s3://inbox/ --wait     any file, with its digests
  .venv/bin/penstock watch                                 every fact, live
  .venv/bin/penstock status                                what runs, and what waits
  .venv/bin/penstock etl status                            tables made of the files in a bucket
  {console}   the buckets in a browser (user and password: PENSTOCK_S3_ACCESS_KEY, _SECRET_KEY in .env)
  make down                                                stop it; your objects stay
"""


@dataclass(frozen=True, slots=True)
class Drop:
    """One file of the demo."""

    key: str
    kind: str
    body: bytes

    def digest(self, algorithm: str) -> str:
        """Compute the expected digest independently of the hasher."""
        return blake3(self.body).hexdigest() if algorithm == "blake3" else hashlib.new(algorithm, self.body).hexdigest()


def files() -> list[Drop]:
    """Generate files of different kinds."""
    prefix = time.strftime("demo/%Y%m%d-%H%M%S")
    poem = b"Water runs through the penstock,\nand the wheel turns.\n" * 40
    return [
        Drop(f"{prefix}/poem.txt", "text", poem),
        Drop(f"{prefix}/wheel.png", "image", _png(256)),
        Drop(f"{prefix}/poem.txt.gz", "gzip", gzip.compress(poem)),
        Drop(f"{prefix}/nothing at all", "empty", b""),
        Drop(f"{prefix}/random.bin", "32 MiB", os.urandom(32 << 20)),
    ]


def _png(side: int) -> bytes:
    """Return a small picture: a blue slope."""
    rows = b"".join(b"\0" + bytes(v for x in range(side) for v in (x, y, 200)) for y in range(side))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def follow(env: Mapping[str, str], drops: Mapping[str, Drop]) -> int:
    """Store the files, print every fact about them as it arrives, and return how many digests differ."""
    topics = (OBJECTS_CHANGED.name, OBJECTS_HASHED.name)
    consumer = AIOKafkaConsumer(*topics, **kafka.client_options(Settings.of(env)), auto_offset_reset="latest")
    await consumer.start()
    try:
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        dropped = asyncio.create_task(asyncio.to_thread(drop_all, env, drops))
        wrong = 0
        waiting = set(drops)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for record in _about(consumer, drops):
                wrong += show_fact(record, drops)
                if record.topic == OBJECTS_HASHED.name:
                    waiting.discard(json.loads(record.value or b"{}")["key"])
                if not waiting:
                    break
        await dropped
    finally:
        await consumer.stop()
    return wrong


async def _about(consumer: AIOKafkaConsumer, drops: Mapping[str, Drop]) -> AsyncIterator[Record]:
    async for record in consumer:
        fact = json.loads(record.value or b"{}")
        if fact.get("bucket") == BUCKET and fact.get("key") in drops:
            yield record


def drop_all(env: Mapping[str, str], drops: Mapping[str, Drop]) -> None:
    """Store every file with a plain S3 client."""
    session = Session()
    isolate(session)
    s3: Any = boto3.session.Session(botocore_session=session).client(  # type: ignore[no-untyped-call]
        "s3",
        endpoint_url=env["PENSTOCK_S3_ENDPOINT"],
        verify=env.get("PENSTOCK_TLS_CA"),
        aws_access_key_id=env["PENSTOCK_S3_ACCESS_KEY"],
        aws_secret_access_key=env["PENSTOCK_S3_SECRET_KEY"],
        region_name="us-east-1",
        config=Config(proxies=NO_PROXIES),
    )
    for key, drop in drops.items():
        s3.upload_fileobj(io.BytesIO(drop.body), BUCKET, key)
        _print_lines(f"{_clock()}  put      {drop.kind:<7}{key}  {len(drop.body):,} bytes")


def _print_lines(*lines: str) -> None:
    """Print lines by one write, so that lines of the uploading thread do not land between them."""
    print("\n".join(lines) + "\n", end="", flush=True)


def show_fact(record: Record, drops: Mapping[str, Drop]) -> int:
    """Print a fact with its digests, checked against the local file; return how many differ."""
    fact: dict[str, Any] = json.loads(record.value or b"{}")
    drop = drops[fact["key"]]
    if record.topic == OBJECTS_CHANGED.name:
        _print_lines(f"{_clock()}  {fact['change']:<9}{drop.kind:<7}{fact['key']}  ({fact['seen_by']} lane)")
        return 0
    right: dict[str, bool] = {
        algorithm: found == drop.digest(algorithm) for algorithm, found in fact["digests"].items()
    }
    _print_lines(
        f"{_clock()}  hashed   {drop.kind:<7}{fact['key']}",
        *(f"{'':10}{TICK if right[name] else CROSS} {name:<7} {found}" for name, found in fact["digests"].items()),
    )
    return len(right) - sum(right.values())


async def users(env: Mapping[str, str]) -> str:
    """Return a line about the table of users once etl has loaded it; empty if it loads none in time."""
    line = ""
    with suppress(TimeoutError, OSError, asyncpg.PostgresError):
        async with asyncio.timeout(USERS_SECONDS):
            connection = await asyncpg.connect(env["PENSTOCK_POSTGRES_DSN"])
            try:
                while not (line := await connection.fetchval(_USERS)):  # noqa: ASYNC110 - another process loads
                    await asyncio.sleep(0.5)
            finally:
                await connection.close()
    return line and f"{TICK} {line}"


_USERS: Final = """
SELECT format(
    'table api.users: %s users, %s with a picture: %s ...', count(*), count(*) FILTER (WHERE img_path <> ''),
    array_to_string((array_agg(first_name || ' ' || last_name ORDER BY user_id))[:3], ', ')
) FROM api.users HAVING count(*) > 0
"""


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def main() -> int:
    """Run the demo; return exit code 1 if a digest differs or does not arrive."""
    env = dotenv.ensure(CHECKOUT, os.environ, services.secrets())
    drops = {drop.key: drop for drop in files()}
    print(f"\nDropping {len(drops)} files into bucket {BUCKET}; each line is a fact as it arrives on Kafka.\n")
    try:
        wrong = asyncio.run(follow(env, drops))
    except TimeoutError:
        print(f"\nno digests within {TIMEOUT_SECONDS:.0f} s; `make status` and `make logs` say why")
        return 1
    except KeyboardInterrupt:
        print("\nthe stack goes on; `make down` stops it")
        return 130
    result = "every digest equals the one computed here" if not wrong else f"{wrong} digests differ"
    print(f"\n{TICK if not wrong else CROSS} {result}")
    if line := asyncio.run(users(env)):
        print(line)
    print(NEXT.format(console=f"http://127.0.0.1:{env['PENSTOCK_S3_CONSOLE_PORT']}"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
