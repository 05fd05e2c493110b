"""Kafka: consumers without a group, idempotent producers and admin clients."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from services.cli.adapters import errors
from services.cli.adapters.errors import translate_errors, within
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


errors.register_rejections(_explain_missing_acl, *AUTHORIZATION_ERRORS)
errors.register_outages("cannot connect", KafkaConnectionError)
errors.register_failures(KafkaError)


def name_of(settings: CliSettings) -> str:
    """Return the name of the server in error texts."""
    return f"Kafka at {settings.kafka_bootstrap}"


async def ping(settings: CliSettings, seconds: float = SECONDS) -> None:
    """Connect and request the cluster's metadata.

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
        with translate_errors(name_of(settings)):
            yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def open_reader(settings: CliSettings, seconds: float = SECONDS) -> AsyncIterator[Any]:
    """Open a consumer without a group: it commits no offsets and causes no rebalance."""
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
        with translate_errors(name_of(settings)):
            yield reader
    finally:
        await reader.stop()


@asynccontextmanager
async def open_reader_at_end(settings: CliSettings, topic: str) -> AsyncIterator[Any]:
    """Open a consumer of what is published on `topic` from now on.

    Raises:
        Rejected: NO_SUCH_TOPIC.

    """
    async with open_reader(settings) as reader:
        await seek_to_end(reader, await assign(settings, reader, [topic]))
        yield reader


@asynccontextmanager
async def open_producer(settings: CliSettings, seconds: float = SECONDS) -> AsyncIterator[Any]:
    """Open an idempotent producer whose records are acknowledged by all replicas."""
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
        with translate_errors(name_of(settings)):
            yield producer
    finally:
        await producer.stop()


async def publish(producer: Any, event: Event) -> None:
    """Publish the event; wait until all replicas have it."""
    headers = [(name, value.encode()) for name, value in headers_for(event, source="cli").items()]
    body = event.model_dump_json().encode()
    await producer.send_and_wait(type(event).topic.name, body, key=event.record_key.encode(), headers=headers)


async def publish_one(settings: CliSettings, event: Event) -> None:
    """Open a producer and publish one event; wait until all replicas have it."""
    async with open_producer(settings) as producer:
        await publish(producer, event)


async def assign(settings: CliSettings, reader: Any, topics: Sequence[str]) -> list[TopicPartition]:
    """Assign all partitions of `topics` to `reader`; return them.

    Raises:
        Rejected: NO_SUCH_TOPIC.

    """
    async with open_admin(settings) as admin:
        counts = await partition_counts(admin, topics)
    if missing := [topic for topic in topics if topic not in counts]:
        raise Rejected("NO_SUCH_TOPIC", f"topic {', '.join(missing)} does not exist: run `penstock setup`")
    partitions = topic_partitions(topics, counts)
    reader.assign(partitions)
    return partitions


async def end_offsets(reader: Any, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the offset after the last record of each partition."""
    return dict(await reader.end_offsets(partitions)) if partitions else {}


async def seek_to_end(reader: Any, partitions: Sequence[TopicPartition]) -> None:
    """Read only what is published from now on: the offsets are fixed before this returns."""
    for partition, offset in (await end_offsets(reader, partitions)).items():
        reader.seek(partition, offset)


async def seek_to_time(reader: Any, partitions: Sequence[TopicPartition], since: datetime) -> None:
    """Read what was published at or after `since`; a partition without such a record starts at its end."""
    ends = await end_offsets(reader, partitions)
    found = await reader.offsets_for_times(dict.fromkeys(partitions, int(since.timestamp() * 1000)))
    for partition in partitions:
        first = found.get(partition)
        reader.seek(partition, first.offset if first is not None else ends[partition])


async def seek_to_start(reader: Any, partitions: Sequence[TopicPartition]) -> None:
    """Read everything that is retained."""
    await reader.seek_to_beginning(*partitions)


async def follow(reader: Any) -> AsyncIterator[Record]:
    """Yield records as they arrive, without an end."""
    while True:
        for records in (await reader.getmany(timeout_ms=POLL_MS, max_records=PAGE)).values():
            for record in records:
                yield record


async def read_to_end(reader: Any, partitions: Sequence[TopicPartition]) -> AsyncIterator[Record]:
    """Yield each record up to the current end of its partition, in order per partition."""
    ends = await end_offsets(reader, partitions)
    await seek_to_start(reader, partitions)
    received_at = time.monotonic()
    while await _is_behind(reader, ends):
        if time.monotonic() - received_at > STALL_SECONDS:
            raise KafkaTimeoutError(f"no record arrived for {STALL_SECONDS:g} s")
        for partition, records in (await reader.getmany(timeout_ms=POLL_MS, max_records=PAGE)).items():
            received_at = time.monotonic()
            for record in records:
                if record.offset < ends[partition]:
                    yield record


async def _is_behind(reader: Any, ends: Offsets) -> bool:
    """Compare positions, not records: compaction and retention leave offsets without records."""
    positions = await asyncio.gather(*(reader.position(partition) for partition in ends))
    return any(position < end for position, end in zip(positions, ends.values(), strict=True))
