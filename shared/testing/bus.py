"""An in-memory broker that records published records, for tests without a server.

It does not emulate delivery (offsets, redelivery, groups); tests on the real broker cover that.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, TypeVar

from faststream import BaseMiddleware
from faststream.kafka import TestKafkaBroker
from faststream.kafka.response import KafkaPublishCommand

from shared.bus import Broker, Bus, Router, create_broker
from shared.events import Event
from shared.middleware.records import Record, stored_record
from shared.settings import Settings

EventT = TypeVar("EventT", bound=Event)
_offsets = count()


@dataclass(frozen=True, slots=True)
class Published:
    """One record as sent to the broker."""

    topic: str
    key: bytes | None
    body: Any
    headers: Mapping[str, str]


@dataclass(slots=True)
class Recorder:
    """Published records in order; publishing to one of `failing_topics` raises its error."""

    published: list[Published] = field(default_factory=list)
    failing_topics: dict[str, Exception] = field(default_factory=dict)

    def record(self, cmd: KafkaPublishCommand) -> None:
        """Record a published record."""
        if (error := self.failing_topics.get(cmd.destination)) is not None:
            raise error
        self.published.append(Published(cmd.destination, cmd.key, cmd.body, dict(cmd.headers)))

    def events(self, kind: type[EventT]) -> list[EventT]:
        """Return the published events of one type."""
        return [kind.model_validate_json(one.body) for one in self.published if one.topic == kind.topic.name]

    def dead_letters(self) -> list[Published]:
        """Return the published dead letters."""
        return [one for one in self.published if one.topic.endswith(".dlq")]

    def dead_letter_codes(self) -> list[str]:
        """Return the error codes of the dead letters, in order."""
        return [one.headers["dlq_code"] for one in self.dead_letters()]


class _Recording(BaseMiddleware[KafkaPublishCommand, Any]):
    def __init__(self, msg: Any, /, *, recorder: Recorder, **kwargs: Any) -> None:
        super().__init__(msg, **kwargs)
        self._recorder = recorder

    async def publish_scope(self, call_next: Any, cmd: KafkaPublishCommand) -> Any:
        self._recorder.record(cmd)
        return await call_next(cmd)


@dataclass(frozen=True, slots=True)
class Wired:
    """One service on an in-memory broker; `recorder` has the records that it published."""

    broker: Broker
    bus: Bus
    router: Router
    recorder: Recorder

    def attach(self, **dependencies: Any) -> None:
        """Subscribe the handlers of the service, bound to `dependencies`."""
        self.router.attach(self.broker, **dependencies)

    async def deliver(self, *records: Record) -> None:
        """Deliver `records` as one batch to the consumer of their topic."""
        subscribers: Iterable[Any] = self.broker.subscribers
        (subscriber,) = (one for one in subscribers if records[0].topic in one.topic_names_for_subscribe)
        await subscriber.process_message(records)


def wire(settings: Settings, router: Router) -> Wired:
    """Return a service on an in-memory broker; `attach` subscribes its handlers."""
    broker, recorder = create_broker(settings, router.service), Recorder()
    broker.add_middleware(partial(_Recording, recorder=recorder))
    return Wired(broker, Bus(broker, router.service), router, recorder)


@asynccontextmanager
async def connected(*services: Wired) -> AsyncIterator[None]:
    """Connect services in memory, so that they consume each other's records."""
    async with TestKafkaBroker(*(one.broker for one in services)):
        yield


def record(
    topic: str, value: bytes | None, *, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
) -> Record:
    """Return a record as a consumer would, with a unique offset."""
    return stored_record(topic, 0, next(_offsets), key, value, headers)


def record_of(event: Event) -> Record:
    """Return the record of an event."""
    return record(event.topic.name, event.model_dump_json().encode(), key=event.record_key.encode())
