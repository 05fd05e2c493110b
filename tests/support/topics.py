"""Topics as anybody may read and write them: plain clients, no group, nothing of ours in between."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from shared import aiokafka_patches
from shared.kafka import client_options
from shared.settings import Settings

T = TypeVar("T")
Headers = Sequence[tuple[str, bytes]]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a loop of its own, whether or not the caller is in a loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@dataclass(frozen=True)
class Fact:
    """One record, read back."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]

    @cached_property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return dict(json.loads(self.value or b"{}"))

    def header(self, name: str) -> str:
        """Return a header as text; empty when it is not there."""
        return self.headers.get(name, b"").decode(errors="replace")


class Kafka:
    """The broker of a stack, as its operator."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._options = client_options(Settings.of(env))

    def names(self) -> list[str]:
        """Return every topic that is not the broker's own."""
        return run(self._names())

    def read(self, *topics: str) -> list[Fact]:
        """Return everything that stands on `topics`, from the beginning."""
        return run(self._read(topics))

    def send(self, topic: str, value: bytes | None, key: bytes | None = None, headers: Headers = ()) -> None:
        """Put one record on a topic."""
        self.send_all([(topic, key, value, headers)])

    def send_all(self, records: Iterable[tuple[str, bytes | None, bytes | None, Headers]]) -> None:
        """Put records on their topics in this order."""
        run(self._send(list(records)))

    def lag(self, groups: Mapping[str, Iterable[str]]) -> dict[str, int]:
        """Return how many records each group has not committed on its topics; those of others are left out."""
        return run(self._lag(groups))

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Return where each partition of topics ends now, by topic and partition."""
        return run(self._ends_of(set(topics)))

    def skip(self, group: str, *topics: str) -> None:
        """Let `group`, none of whose members may run, begin after everything that stands on `topics` now."""
        run(self._skip(group, topics))

    async def _names(self) -> list[str]:
        async with self._admin() as admin:
            return sorted(name for name in await admin.list_topics() if not name.startswith("__"))

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(**self._options)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    async def _ends(self, consumer: AIOKafkaConsumer, topics: Iterable[str]) -> dict[TopicPartition, int]:
        async with self._admin() as admin:
            found = await admin.describe_topics(list(topics))
        tps = [TopicPartition(one["topic"], part["partition"]) for one in found for part in one["partitions"]]
        assert tps, topics
        ends: dict[TopicPartition, int] = await consumer.end_offsets(tps)
        return ends

    async def _consumer(self, **options: Any) -> AIOKafkaConsumer:
        aiokafka_patches.install()  # what hostile records a test leaves behind, the next one reads too
        consumer = AIOKafkaConsumer(**self._options, enable_auto_commit=False, **options)
        await consumer.start()
        return consumer

    async def _read(self, topics: Sequence[str]) -> list[Fact]:
        consumer = await self._consumer(auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20)
        try:
            ends = await self._ends(consumer, topics)
            consumer.assign(list(ends))
            begins = await consumer.beginning_offsets(list(ends))
            left = {tp for tp, end in ends.items() if end > begins[tp]}
            found = []
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    found += [_fact(record) for record in records if record.offset < ends[tp]]
                left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
            return found
        finally:
            await consumer.stop()

    async def _send(self, records: Sequence[tuple[str, bytes | None, bytes | None, Headers]]) -> None:
        producer = AIOKafkaProducer(**self._options, acks="all", max_request_size=4 << 20)
        await producer.start()
        try:
            for topic, key, value, headers in records:
                await producer.send_and_wait(topic, value, key=key, headers=list(headers))
        finally:
            await producer.stop()

    async def _lag(self, groups: Mapping[str, Iterable[str]]) -> dict[str, int]:
        consumer = await self._consumer()
        try:
            lags = {}
            for group, topics in groups.items():
                ends = await self._ends(consumer, topics)
                begins = await consumer.beginning_offsets(list(ends))
                async with self._admin() as admin:
                    done = await admin.list_consumer_group_offsets(group)
                at = {tp: done[tp].offset if tp in done else begins[tp] for tp in ends}
                lags[group] = sum(end - at[tp] for tp, end in ends.items())
            return lags
        finally:
            await consumer.stop()

    async def _ends_of(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        consumer = await self._consumer()
        try:
            return {(tp.topic, tp.partition): end for tp, end in (await self._ends(consumer, topics)).items()}
        finally:
            await consumer.stop()

    async def _skip(self, group: str, topics: Iterable[str]) -> None:
        consumer = await self._consumer(group_id=group)
        try:
            ends = await self._ends(consumer, topics)
            consumer.assign(list(ends))
            await consumer.commit({tp: OffsetAndMetadata(end, "") for tp, end in ends.items()})
        finally:
            await consumer.stop()


def _fact(record: Any) -> Fact:
    headers = {name: value or b"" for name, value in record.headers}
    return Fact(record.topic, record.partition, record.offset, record.key, record.value, headers)
