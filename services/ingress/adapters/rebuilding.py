"""Rebuild lost facts: reset the consumer group to the beginning of its topics."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from shared import kafka
from shared.errors import one_line
from shared.postgres import Pool
from shared.settings import Settings

log = structlog.get_logger()

REBUILT_TABLE: Final = "facts"
CLIENT_ID: Final = "penstock-ingress"
LEAVE_SECONDS: Final = 15.0
"""A member that was killed leaves its group after 10 s (aiokafka's `session_timeout_ms`)."""
POLL_SECONDS: Final = 0.5


async def rewind_if_lost(pool: Pool, settings: Settings, group: str, topics: Sequence[str]) -> None:
    """Reset `group` to the earliest offsets if the row in `ingress.rebuilt` is missing; runs once.

    A group with active members is left unchanged, because their commits would overwrite the reset. The next start tries
    again.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('penstock.rebuilt', 0))")
        if await connection.fetchval("SELECT true FROM ingress.rebuilt WHERE what = $1", REBUILT_TABLE):
            return
        try:
            partitions = await _rewind(settings, group, topics)
        except KafkaError as error:
            if error.retriable:
                raise
            log.warning("facts.not_rebuilt", reason=one_line(error))
            return
        if partitions is None:
            log.warning("facts.not_rebuilt", reason="another ingress runs: stop all of them, and start one")
            return
        await connection.execute("INSERT INTO ingress.rebuilt (what) VALUES ($1) ON CONFLICT DO NOTHING", REBUILT_TABLE)
        log.info("facts.rebuilding", partitions=partitions)


async def _rewind(settings: Settings, group: str, topics: Sequence[str]) -> int | None:
    """Set a group to the beginning; return how many partitions that are, None while it has members."""
    options = {**kafka.client_options(settings), "client_id": CLIENT_ID}
    admin = AIOKafkaAdminClient(**options)
    consumer = AIOKafkaConsumer(**options, group_id=group, enable_auto_commit=False)
    try:
        await admin.start()
        if not await _wait_until_empty(admin, group):
            return None
        await consumer.start()
        found = await admin.describe_topics(list(topics))
        topic_partitions = [
            TopicPartition(one["topic"], part["partition"]) for one in found for part in one["partitions"]
        ]
        consumer.assign(topic_partitions)
        begins = await consumer.beginning_offsets(topic_partitions)
        await consumer.commit({topic_partition: OffsetAndMetadata(at, "") for topic_partition, at in begins.items()})
        return len(topic_partitions)
    finally:
        await consumer.stop()
        await admin.close()


async def _wait_until_empty(admin: AIOKafkaAdminClient, group: str) -> bool:
    """Wait until the group has no members; return whether that is so."""
    for _ in range(int(LEAVE_SECONDS / POLL_SECONDS)):
        if not await _has_members(admin, group):
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _has_members(admin: AIOKafkaAdminClient, group: str) -> bool:
    try:
        answers: list[Any] = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:
        return True  # the broker has no coordinator yet; polled again
    found: list[Any] = [one for answer in answers for one in answer.groups]
    return any(members for _code, _group, _state, _type, _protocol, members, *_ in found)
