"""Kafka, with delivery decided once: at least once on the wire, once in effect.

What FastStream and aiokafka do by default loses records (ack first), commits failures (ack always) or creates
topics with one partition. Here a batch of records goes to a handler; each record has its own outcome; what the
handler returns is published and acknowledged by all replicas; only then is the batch committed.
"""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faststream import AckPolicy
from faststream.exceptions import IncorrectState
from faststream.kafka import KafkaBroker
from faststream.kafka.prometheus import KafkaPrometheusMiddleware
from prometheus_client import REGISTRY as METRICS
from pydantic import ValidationError

from shared import aiokafka_patches, kafka
from shared.errors import Rejected, one_line, register_outage_check, register_outages
from shared.events import Event
from shared.middleware.dead_letter import DeadLetter, DeadLetters
from shared.middleware.envelope import Envelope
from shared.middleware.log_context import LogContext
from shared.middleware.records import Record, records_of, stored_record
from shared.middleware.retry import RecordRetries, Retry
from shared.progress import Progress
from shared.settings import Settings
from shared.topics import Topic
from shared.tracing import tracing

log = structlog.get_logger()

TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
"""What no waiting mends."""

register_outages(
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.KafkaUnavailableError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError,
    IncorrectState,  # a producer that has not connected yet
)
register_outage_check(
    lambda error: isinstance(error, kafka_errors.BrokerResponseError) and not isinstance(error, TOO_LARGE)
)

EventT = TypeVar("EventT")
Decode = Callable[[Record], EventT]
POLL_SECONDS = 1.0
HEARTBEAT_MS = 500
METADATA_MS = 10_000
BUSY_RECORDS = 16
GATHER_SECONDS = 0.1
"""A consumer that keeps up with a stream lets it gather: a batch costs the same few round trips whatever it holds. One
that is idle answers at once, and one with a backlog, whose batches are full, never waits."""
MAX_REQUEST_BYTES = 4 << 20
MICROSECONDS = 1_000_000
CLOCK_TOLERANCE_SECONDS = 65 * 60.0
"""Revisions are of the database's clock, from which a reader's may differ by an hour. What a forged one may do within
this is undone by readers: they take a revision that is ahead of the database for the present."""


@dataclass(slots=True, eq=False)
class Received(Generic[EventT]):
    """One record of a batch: its event, where it came from, and whether the handler refused it."""

    event: EventT
    record: Record
    rejection: Exception | None = None

    def reject(self, error: Exception) -> None:
        """Send this record, and no other, to the dead letters once the batch is done."""
        self.rejection = error


Handler = Callable[..., Awaitable[Iterable[Event] | None]]


class Consumer(AIOKafkaConsumer):
    """A consumer that tells when it last asked for records, and waits for them on the broker, not in a sleep."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.polled_at: float | None = None
        self._got = 0
        self._user = kwargs.get("sasl_plain_username")
        self._denied: set[str] = set()

    def assigned_partitions(self) -> list[str]:
        """Return what this consumer reads, as topic/partition."""
        return [f"{held.topic}/{held.partition}" for held in super().assignment()]  # type: ignore[no-untyped-call]

    async def getmany(self, *partitions: Any, timeout_ms: int = 0, max_records: int | None = None) -> Any:
        """Wait up to `POLL_SECONDS`: the caller's short `timeout_ms` is only its pause after an empty answer."""
        if BUSY_RECORDS <= self._got < (max_records or self._got) // 2:
            await asyncio.sleep(GATHER_SECONDS)
        self.polled_at = time.monotonic()
        timeout_ms = max(timeout_ms, int(POLL_SECONDS * 1000))
        try:
            records = await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        except kafka.AUTHORIZATION_ERRORS as error:
            # FastStream tries again in a few seconds: rights may be granted while a service runs
            log.warning("kafka.denied", user=self._user, reason=one_line(error), fix=kafka.GRANT_HINT)
            raise
        self._log_denied_topics()
        self._got = sum(map(len, records.values()))
        return records

    def _log_denied_topics(self) -> None:
        """Log the topics that Kafka hides from this user, once: it answers about them as if they had no partitions."""
        denied = self._client.cluster.unauthorized_topics & super().subscription()  # type: ignore[no-untyped-call]
        if denied - self._denied:
            log.warning("kafka.denied", user=self._user, topics=sorted(denied), fix=kafka.GRANT_HINT)
        self._denied = denied


class Broker(KafkaBroker):
    """FastStream's broker with our consumer; it remembers the consumers it made, for their health."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.consumers: list[Consumer] = []

    def _build_consumer(self, options: Mapping[str, Any], **more: Any) -> Consumer:
        consumer = Consumer(**{**options, **more})
        self.consumers.append(consumer)
        return consumer

    async def _connect(self) -> Callable[..., AIOKafkaConsumer]:
        made = await super()._connect()
        options = made.keywords if isinstance(made, partial) else {}
        self.config.broker_config.builder = partial(self._build_consumer, options)
        return self.config.broker_config.builder


def create_broker(settings: Settings, service: str, *, policy: RecordRetries | None = None) -> Broker:
    """Return the broker of `service`: acks from all, idempotent, no topic made by accident."""
    aiokafka_patches.install()
    broker = Broker(
        settings.kafka_bootstrap.split(","),
        security=kafka.security(settings),
        client_id=f"penstock-{service}",
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        # whoever rejoined while a topic was missing, as after Kafka lost its data, learns of it with the next look
        metadata_max_age_ms=METADATA_MS,
        max_batch_size=1 << 17,
        max_request_size=MAX_REQUEST_BYTES,
        graceful_timeout=settings.shutdown_grace / 2,
        apply_types=False,
        # its own lines, such as a consumer's errors; what level is worth one is decided in shared.logs
        logger=logging.getLogger("faststream"),
    )
    letters, policy = DeadLetters(broker, service), policy or RecordRetries()
    for middleware in (
        KafkaPrometheusMiddleware(registry=METRICS, app_name=f"penstock-{service}"),
        *tracing(settings, service),
        LogContext,
        partial(DeadLetter, letters=letters, policy=policy),
        partial(Retry, policy=policy),
        partial(Envelope, source=service),
    ):
        broker.add_middleware(middleware)
    return broker


async def wait_for_kafka(settings: Settings, group: str = "") -> None:
    """Return once Kafka answers and lets us join `group`; raises an outage while it does not.

    A refusal is logged at every try: whoever corrects a password, a certificate or an ACL sees when it is right.
    """
    try:
        await kafka.check_access(settings, group)
    except kafka.KafkaRefused as refused:
        log.warning("kafka.refused", user=settings.kafka_user, reason=str(refused))
        raise
    except kafka.KafkaDenied as denied:
        log.warning("kafka.denied", user=settings.kafka_user, reason=str(denied))
        raise


@contextlib.contextmanager
def _denials_logged() -> Iterator[None]:
    """Log a missing right to publish: it is retried like an outage, and would look like one."""
    try:
        yield
    except Exception as error:
        if isinstance(denied := error.__cause__ or error, kafka.AUTHORIZATION_ERRORS):
            log.warning("kafka.denied", reason=one_line(denied), fix=kafka.GRANT_HINT)
        raise


class Bus:
    """What a service does on the bus beside consuming: tell facts, and put aside records it cannot use."""

    def __init__(self, broker: KafkaBroker, service: str) -> None:
        self._broker = broker
        self._letters = DeadLetters(broker, service)

    async def publish(self, events: Iterable[Event]) -> None:
        """Publish all `events`, many in flight, and return once all replicas have them; each key keeps its order."""
        with _denials_logged():
            acks = [await self._broker.publish(event, type(event).topic.name, no_confirm=True) for event in events]
            await asyncio.gather(*(ack for ack in acks if inspect.isawaitable(ack)))

    async def dead_letter(self, record: Record, error: BaseException) -> None:
        """Put `record` among the dead letters."""
        with _denials_logged():
            await self._letters.dead_letter(record, error)

    async def dead_letter_event(self, event: Event, error: BaseException) -> None:
        """Put among the dead letters an event whose own record was committed when it became leased work."""
        topic, body = type(event).topic.name, event.model_dump_json().encode()
        await self.dead_letter(
            stored_record(topic, -1, -1, event.record_key.encode("utf-8", "surrogateescape"), body), error
        )


def decode_event(kind: type[Event], *, now: Callable[[], float] = time.time) -> Decode[Event]:
    """Return the decoder of records of `kind`; what does not fit is rejected with the first reason."""

    def decode(record: Record) -> Event:
        if record.value is None:
            raise Rejected("EMPTY_RECORD", f"a record without a body is not an event of {kind.topic.name}")
        try:
            event = kind.decode(record.value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            code = first["type"] if first["type"].isupper() else "BAD_EVENT"
            raise Rejected(code, f"not an event of {kind.topic.name}: {where}: {first['msg']}") from None
        reject_future_revision(event, now())
        return event

    return decode


def reject_future_revision(event: Event, now: float) -> None:
    """Raise Rejected (REVISION_AHEAD) for a revision beyond the clock, which would outdate every later change."""
    revision = getattr(event, "revision", 0)
    if revision > (now + CLOCK_TOLERANCE_SECONDS) * MICROSECONDS:
        raise Rejected(
            "REVISION_AHEAD",
            f"revision {revision} lies more than {CLOCK_TOLERANCE_SECONDS / 60:g} minutes ahead of the clock: "
            "a forged event, or a host whose clock is wrong",
        )


@dataclass(frozen=True, slots=True)
class Subscription:
    """A handler, the topics it reads as one stream, and what it publishes."""

    handler: Handler
    topics: tuple[Topic, ...]
    decode: Decode[Any]
    payload: Any
    max_records: int
    publishes: tuple[type[Event], ...]


@dataclass(slots=True)
class Router:
    """The handlers of one service; parameters after the first are given by name when the service starts."""

    service: str
    subscriptions: list[Subscription] = field(default_factory=list)
    provided: dict[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    def consumes(
        self, *topics: Topic, decode: Decode[Any], payload: Any, max_records: int = 500, publishes: Any = ()
    ) -> Callable[[Handler], Handler]:
        """Hand batches of raw `topics`, decoded by `decode`, to a handler."""

        def register(handler: Handler) -> Handler:
            made = Subscription(handler, topics, decode, payload, max_records, tuple(publishes))
            self.subscriptions.append(made)
            return handler

        return register

    def on(self, kind: type[Event], *, max_records: int = 500, publishes: Any = ()) -> Callable[[Handler], Handler]:
        """Hand batches of one event to a handler, as `Sequence[Received[kind]]`."""
        return self.consumes(
            kind.topic, decode=decode_event(kind), payload=kind, max_records=max_records, publishes=publishes
        )

    def attach(self, broker: Broker) -> None:
        """Subscribe every handler of this service to `broker`, in the consumer group of its name."""
        bus = Bus(broker, self.service)
        for subscription in self.subscriptions:
            self._attach(broker, subscription, partial(self._deliver, subscription, bus))

    async def _follow(self, subscription: Subscription, deliver: Callable[..., Awaitable[None]], records: Any) -> None:
        """Deliver records; until that succeeds, however often it is tried, these topics make no progress."""
        name = "+".join(topic.name for topic in subscription.topics)
        self.progress.begin(name)
        try:
            await deliver(records)
        except Exception as error:
            self.progress.released(name, error)
            raise
        self.progress.done(name)

    def _attach(self, broker: Broker, subscription: Subscription, deliver: Callable[..., Awaitable[None]]) -> None:
        names = [topic.name for topic in subscription.topics]
        subscriber = broker.subscriber(
            *names,
            group_id=self.service,
            batch=True,
            max_records=subscription.max_records,
            batch_timeout_ms=1,
            auto_offset_reset="earliest",
            # a member hears of a rebalance with its next heartbeat, and everybody waits for the last one to hear
            heartbeat_interval_ms=HEARTBEAT_MS,
            # topics that are read as one stream keep a key's records on one member
            partition_assignment_strategy=(RangePartitionAssignor,),
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=_parse,
            decoder=_records_of,
            title=f"{self.service}:{'+'.join(names)}",
            description=inspect.getdoc(subscription.handler),
        )
        subscriber(_endpoint(subscription, partial(self._follow, subscription, deliver)))
        for kind in subscription.publishes:
            broker.publisher(
                kind.topic.name,
                schema=kind,
                title=f"{self.service}:{kind.topic.name}",
                description=inspect.getdoc(kind),
            )

    async def _deliver(self, subscription: Subscription, bus: Bus, records: Sequence[Record]) -> None:
        """Decode, handle, publish, and bury what was refused; the order makes a crash anywhere a mere repeat."""
        good: list[Received[Any]] = []
        bad: list[tuple[Record, BaseException]] = []
        for record in records:
            if not self._is_for_us(record):
                continue
            try:
                good.append(Received(subscription.decode(record), record))
            except Exception as error:  # noqa: BLE001 - any failure to read a record is the record's
                bad.append((record, _as_rejection(error)))
        if good:
            published = await subscription.handler(good, **self._arguments(subscription.handler))
            await bus.publish(published or ())
        bad.extend((one.record, one.rejection) for one in good if one.rejection is not None)
        for record, refusal in bad:
            await bus.dead_letter(record, refusal)

    def _is_for_us(self, record: Record) -> bool:
        only = dict(record.headers).get("dlq_only")
        return only is None or only.decode(errors="replace") == self.service

    def _arguments(self, handler: Handler) -> dict[str, Any]:
        return {name: self.provided[name] for name in list(inspect.signature(handler).parameters)[1:]}


def _as_rejection(error: Exception) -> Rejected:
    return error if isinstance(error, Rejected) else Rejected("UNREADABLE", one_line(error))


def _endpoint(subscription: Subscription, deliver: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return what FastStream calls; its annotation is what the AsyncAPI document shows."""

    async def endpoint(records: Any) -> None:
        await deliver(records)

    endpoint.__name__ = getattr(subscription.handler, "__name__", "handler")
    endpoint.__doc__ = inspect.getdoc(subscription.handler)
    endpoint.__annotations__ = {"records": list[subscription.payload], "return": None}  # type: ignore[name-defined]
    return endpoint


async def _parse(records: tuple[Record, ...], parse: Callable[..., Awaitable[Any]]) -> Any:
    """Read no header here: FastStream's parser decodes them as UTF-8, and one hostile header would fail the batch."""
    bare = tuple(replace(record, headers=()) for record in records)
    msg = await parse(bare)
    msg.raw_message = records
    return msg


async def _records_of(msg: Any) -> Sequence[Record]:
    return records_of(msg)
