"""What one user of Kafka may do, found out by trying; nothing that is tried leaves a trace."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol import admin
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from shared.kafka import AUTHORIZATION_ERRORS, client_options
from shared.provision.kafka_requests import AlterCredentials, Credential, DescribeCredentials
from shared.settings import Settings

CODES = {kind.errno for kind in AUTHORIZATION_ERRORS}
TOPIC, CLUSTER = 2, 4
ANY, LITERAL, ALL, ALLOW = 1, 3, 2, 3


class KafkaUser:
    """An open client of one user."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def ask(self, request: Any) -> Any:
        """Send one request to a broker."""
        return await self._client.send(self._client.get_random_node(), request)

    async def sees(self) -> set[str]:
        """Return the topics that the broker lists for this user."""
        answer = await self.ask(MetadataRequest(None))
        return {topic for code, topic, *_ in answer.topics if not code}

    async def writes(self, topics: Iterable[str]) -> set[str]:
        """Return the topics that it may write: the broker asks for rights before it finds that no record was sent."""
        answer = await self.ask(ProduceRequest(None, -1, 5000, [(name, [(0, b"")]) for name in topics]))
        codes = {name: partitions[0][1] for name, partitions in answer.topics}
        assert 0 not in codes.values()
        return {name for name, code in codes.items() if code not in CODES}

    async def reads(self, topics: Iterable[str]) -> set[str]:
        """Return the topics that it may read."""
        answer = await self.ask(FetchRequest(0, 0, 1 << 20, 0, [(name, [(0, 0, 1 << 10)]) for name in topics]))
        return {name for name, partitions in answer.topics if partitions[0][1] not in CODES}

    async def joins(self, groups: Iterable[str]) -> set[str]:
        """Return the groups in which it may be a member."""
        codes = {name: (await self.ask(HeartbeatRequest(name, -1, ""))).error_code for name in groups}
        return {name for name, code in codes.items() if code not in CODES}

    async def watches(self, groups: Iterable[str]) -> set[str]:
        """Return the groups whose offsets it may see."""
        codes = {name: (await self.ask(OffsetFetchRequest(name, None))).error_code for name in groups}
        return {name for name, code in codes.items() if code not in CODES}

    async def administers(self, topic: str, group: str) -> set[str]:
        """Return the names of the administrator's requests that are not refused for want of a right."""
        requests = {
            "create topic": (
                admin.CreateTopicsRequest([("x", 1, 1, [], [])], 5000, validate_only=True),
                "topic_errors",
            ),
            "delete topic": (admin.DeleteTopicsRequest([topic], 5000), "topic_error_codes"),
            "add partitions": (
                admin.CreatePartitionsRequest([(topic, (99, None))], 5000, validate_only=True),
                "topic_errors",
            ),
            "configure topic": (
                admin.AlterConfigsRequest([(TOPIC, topic, [("retention.ms", "1")])], validate_only=True),
                "resources",
            ),
            "delete records": (admin.DeleteRecordsRequest([(topic, [(0, 0)])], 5000), "topics"),
            "delete group": (admin.DeleteGroupsRequest([group]), "results"),
            "list ACLs": (admin.DescribeAclsRequest(ANY, None, ANY, None, None, ANY, ANY), "error_code"),
            "grant": (
                admin.CreateAclsRequest(TOPIC, "*", LITERAL, "User:penstock-x", "*", ALL, ALLOW),
                "creation_responses",
            ),
            "revoke": (
                admin.DeleteAclsRequest(TOPIC, "x", LITERAL, "User:penstock-x", "*", ALL, ALLOW),
                "filter_responses",
            ),
            "list users": (DescribeCredentials(["penstock"]), "error_code"),
            "make a user": (AlterCredentials([Credential.of("penstock-x", "x", "SCRAM-SHA-512")]), "results"),
        }
        codes = {name: _numbers(getattr(await self.ask(request), part)) for name, (request, part) in requests.items()}
        return {name for name, found in codes.items() if not found & CODES}

    async def coordinates(self, group: str) -> int:
        """Return the code with which the broker answers who coordinates a group."""
        code: int = (await self.ask(FindCoordinatorRequest(group, 0))).error_code
        return code


def _numbers(answer: Any) -> set[int]:
    """Return every whole number of an answer; a code of `CODES` is among them when it was refused."""
    if isinstance(answer, int):
        return {answer}
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list | tuple) else ()
    return {number for part in parts for number in _numbers(part)}


@asynccontextmanager
async def logged_in(settings: Settings) -> AsyncIterator[KafkaUser]:
    """Open a client of the user of `settings`."""
    client = AIOKafkaClient(**client_options(settings), client_id="test")
    try:
        await client.bootstrap()
        yield KafkaUser(client)
    finally:
        await client.close()
