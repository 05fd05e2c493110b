"""Kafka: read without a group, write with every guarantee, ask the broker about itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from services.cli.adapters import trouble
from services.cli.adapters.trouble import reaching, within
from services.cli.settings import CliSettings
from shared import aiokafka_patches
from shared.cloud_events import headers_for
from shared.errors import Rejected, one_line
from shared.events import Event
from shared.kafka import AUTHORIZATION_ERRORS, GRANT_HINT, client_options, explain_refusals
from shared.lags import partition_counts, topic_partitions

CLIENT = "penstock-cli"
SECONDS = 5.0
REQUEST_MS = 10_000
STALL_SECONDS = 15.0
PAGE = 500
POLL_MS = 500
MAX_REQUEST_BYTES = 4 << 20

Record = ConsumerRecord[bytes | None, bytes | None]
Offsets = Mapping[TopicPartition, int]


def _explain_missing_acl(server: str, error: BaseException) -> Rejected:
    return Rejected("ACCESS_DENIED", f"{server} denies this user: {one_line(error)}; {GRANT_HINT}")


trouble.register_rejections(_explain_missing_acl, *AUTHORIZATION_ERRORS)
trouble.register_outages("cannot connect", KafkaConnectionError)
trouble.register_failures(KafkaError)


def name_of(settings: CliSettings) -> str:
    """Name the broker as errors name it."""
    return f"Kafka at {settings.kafka_bootstrap}"


async def ping(settings: CliSettings, seconds: float = SECONDS) -> None:
    """Ask for the cluster.

    Raises:
        Outage: no answer within `seconds`.

    """
    async with open_admin(settings, seconds):
        pass


@asynccontextmanager
async def open_admin(settings: CliSettings, seconds: float = SECONDS) -> AsyncIterator[Any]:
    """Open an admin client."""
    admin: Any = AIOKafkaAdminClient(**client_options(settings), client_id=CLIENT, request_timeout_ms=REQUEST_MS)
    try:
        async with within(seconds, name_of(settings)), explain_refusals(settings):
            await admin.start()
        with reaching(name_of(settings)):
            yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def open_reader(settings: CliSettings, seconds: float = SECONDS) -> AsyncIterator[Any]:
    """Open a consumer without a group: it moves nobody's offsets and balances nobody's partitions."""
    aiokafka_patches.install()
    reader: Any = AIOKafkaConsumer(
        **client_options(settings),
        client_id=CLIENT,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=REQUEST_MS,
        max_partition_fetch_bytes=MAX_REQUEST_BYTES,
    )
    try:
        async with within(seconds, name_of(settings)), explain_refusals(settings):
            await reader.start()
        with reaching(name_of(settings)):
            yield reader
    finally:
        await reader.stop()


@asynccontextmanager
async def open_producer(settings: CliSettings, seconds: float = SECONDS) -> AsyncIterator[Any]:
    """Open a producer: acknowledged by all replicas, idempotent."""
    producer: Any = AIOKafkaProducer(
        **client_options(settings),
        client_id=CLIENT,
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=REQUEST_MS,
        max_request_size=MAX_REQUEST_BYTES,
    )
    try:
        async with within(seconds, name_of(settings)), explain_refusals(settings):
            await producer.start()
        with reaching(name_of(settings)):
            yield producer
    finally:
        await producer.stop()


async def publish(producer: Any, event: Event, *, source: str = "cli") -> None:
    """Publish one event and wait until all replicas have it."""
    headers = [(name, value.encode()) for name, value in headers_for(event, source=source).items()]
    body = event.model_dump_json().encode()
    await producer.send_and_wait(type(event).topic.name, body, key=event.record_key.encode(), headers=headers)


async def assign(settings: CliSettings, reader: Any, topics: Sequence[str]) -> list[TopicPartition]:
    """Give all partitions of `topics` to `reader`.

    Raises:
        Rejected: a topic is not there.

    """
    async with open_admin(settings) as admin:
        counts = await partition_counts(admin, topics)
    if missing := [topic for topic in topics if topic not in counts]:
        raise Rejected("NO_SUCH_TOPIC", f"topic {', '.join(missing)} does not exist; run `penstock setup`")
    partitions = topic_partitions(topics, counts)
    reader.assign(partitions)
    return partitions


async def ends_of(reader: Any, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the offset after the last record of each partition."""
    return dict(await reader.end_offsets(partitions)) if partitions else {}


async def seek_to_now(reader: Any, partitions: Sequence[TopicPartition]) -> None:
    """Read only what is published from this moment on: the offsets are pinned before this returns."""
    for partition, offset in (await ends_of(reader, partitions)).items():
        reader.seek(partition, offset)


async def seek_to_time(reader: Any, partitions: Sequence[TopicPartition], since: datetime) -> None:
    """Read what was published at or after `since`; partitions without such a record start at their end."""
    ends = await ends_of(reader, partitions)
    found = await reader.offsets_for_times(dict.fromkeys(partitions, int(since.timestamp() * 1000)))
    for partition in partitions:
        at = found.get(partition)
        reader.seek(partition, at.offset if at is not None else ends[partition])


async def seek_to_start(reader: Any, partitions: Sequence[TopicPartition]) -> None:
    """Read everything that is still there."""
    await reader.seek_to_beginning(*partitions)


async def follow(reader: Any) -> AsyncIterator[Record]:
    """Yield records for ever, as they come."""
    while True:
        for records in (await reader.getmany(timeout_ms=POLL_MS, max_records=PAGE)).values():
            for record in records:
                yield record


async def read_through(reader: Any, partitions: Sequence[TopicPartition]) -> AsyncIterator[Record]:
    """Yield every record that is there now, then stop; order is kept per partition."""
    ends = await ends_of(reader, partitions)
    await seek_to_start(reader, partitions)
    heard = time.monotonic()
    while await _is_behind(reader, ends):
        if time.monotonic() - heard > STALL_SECONDS:
            raise KafkaTimeoutError(f"nothing arrived for {STALL_SECONDS:g} s")
        for partition, records in (await reader.getmany(timeout_ms=POLL_MS, max_records=PAGE)).items():
            heard = time.monotonic()
            for record in records:
                if record.offset < ends[partition]:
                    yield record


async def _is_behind(reader: Any, ends: Offsets) -> bool:
    """Compare positions, not records: compaction and retention leave offsets that never come."""
    positions = await asyncio.gather(*(reader.position(partition) for partition in ends))
    return any(position < end for position, end in zip(positions, ends.values(), strict=True))
