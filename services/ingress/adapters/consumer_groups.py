"""Consumer groups as the broker reports them: members, partitions, lag and read rate."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from services import catalogue
from services.ingress.core.throughput import Throughput
from services.ingress.settings import IngressSettings
from shared import kafka
from shared.errors import Outage
from shared.lags import lag_of_groups

KAFKA_SECONDS: Final = 4.0
CACHE_SECONDS: Final = 1.0
"""How long an answer is cached, so that concurrent clients cause one broker query."""


class ConsumerGroups:
    """Query the broker on demand, with a short cache."""

    def __init__(self, settings: IngressSettings) -> None:
        self._settings = settings
        self._consumers = catalogue.manifests().consumers
        self._throughput = Throughput()
        self._last_seen: dict[str, datetime] = {}
        self._lock = asyncio.Lock()
        self._answer: list[dict[str, Any]] = []
        self._answered_at = -CACHE_SECONDS

    async def describe(self) -> list[dict[str, Any]]:
        """Return every consumer group of Penstock.

        `rate` is records per second since an earlier sample of the last minute, null without one. `last_seen` is when a
        sample last found a member; the broker does not store that.

        Raises Outage: Kafka does not answer within `KAFKA_SECONDS`.
        """
        async with self._lock:
            if time.monotonic() - self._answered_at >= CACHE_SECONDS:
                self._answer = await self._ask_broker()
                self._answered_at = time.monotonic()
            return self._answer

    async def _ask_broker(self) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(KAFKA_SECONDS), self._clients() as (admin, reader):
                lags, committed = await lag_of_groups(admin, reader, self._consumers)
                groups = {group: await _described(admin, group) for group in self._consumers}
        except TimeoutError:
            raise Outage(f"Kafka does not answer within {KAFKA_SECONDS:g} s: try again later") from None
        self._throughput.add_sample(time.monotonic(), committed)
        return [self._group_row(group, state, members, lags[group]) for group, (state, members) in groups.items()]

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[tuple[Any, Any]]:
        """Yield an admin client and a consumer without a group, so no offsets are committed."""
        name: dict[str, Any] = {**kafka.client_options(self._settings), "client_id": "penstock-ingress-stats"}
        async with AsyncExitStack() as stack:
            admin: Any = AIOKafkaAdminClient(**name)
            stack.push_async_callback(admin.close)
            await admin.start()
            reader: Any = AIOKafkaConsumer(**name, enable_auto_commit=False)
            stack.push_async_callback(reader.stop)
            await reader.start()
            yield admin, reader

    def _group_row(
        self, group: str, state: str, members: list[dict[str, Any]], lags: Mapping[str, int]
    ) -> dict[str, Any]:
        if members:
            self._last_seen[group] = datetime.now(UTC)
        rates, seconds = self._throughput.rates(group)
        return {
            "group": group,
            "state": state,
            "members": members,
            "last_seen": self._last_seen.get(group),
            "lag": sum(lags.values()),
            "rate_over_seconds": seconds,
            "topics": [{"topic": name, "lag": lag, "rate": rates.get(name)} for name, lag in sorted(lags.items())],
        }


async def _described(admin: Any, group: str) -> tuple[str, list[dict[str, Any]]]:
    (answer,) = await admin.describe_consumer_groups([group])
    (_, _, state, _, _, members, *_) = answer.groups[0]
    return state.lower(), sorted(map(_member, members), key=lambda one: (one["client_id"], one["member_id"]))


def _member(row: Iterable[Any]) -> dict[str, Any]:
    member_id, client_id, host, _, assignment = row
    assigned = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
    return {
        "client_id": client_id,
        "member_id": member_id,
        "host": host.removeprefix("/"),
        "partitions": sorted(f"{one.topic}/{one.partition}" for one in assigned),
    }
