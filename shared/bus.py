"""Kafka consumers and producers with one delivery guarantee: at least once on the wire, once in effect.

The defaults of FastStream and aiokafka lose records (ack first), commit failed records (ack always) or create topics
with one partition. Here a handler gets a batch; each record has its own outcome; the bus publishes the events that the
handler returns, waits until all replicas have them, and only then commits the batch.
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
from shared.errors import PenstockError, Rejected, one_line, register_outage_check, register_outages
from shared.events import Event
from shared.middleware.dead_letter import DeadLetter, DeadLetters
from shared.middleware.envelope import Envelope
from shared.middleware.log_context import LogContext
from shared.middleware.records import Record, records_of, stored_record
from shared.middleware.retry import RecordRetries, Retry
from shared.settings import Settings
from shared.stages import StageProgress
from shared.topics import Topic
from shared.tracing import tracing

log = structlog.get_logger()

TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
"""Errors that retrying cannot fix: the record exceeds the broker's limit."""

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
"""Wait before the next poll of a consumer that keeps up with a busy stream: a batch costs the same few round trips
whatever its size. An idle consumer polls at once; one with a backlog, whose batches are full, never waits."""
MAX_REQUEST_BYTES = 4 << 20
MICROSECONDS = 1_000_000
CLOCK_TOLERANCE_SECONDS = 65 * 60.0
"""Revisions come from the database's clock; a reader's clock may differ from it by an hour. A forged revision within
this tolerance does no lasting harm: readers treat a revision ahead of the database's clock as the present."""


@dataclass(slots=True, eq=False)
class Received(Generic[EventT]):
    """One record of a batch: its event, the raw record, and the error with which the handler rejected it."""

    event: EventT
    record: Record
    rejection: Exception | None = None

    def reject(self, error: Exception) -> None:
        """Send only this record to the dead letter topic once the batch is done."""
        self.rejection = error


Handler = Callable[..., Awaitable[Iterable[Event] | None]]


class Consumer(AIOKafkaConsumer):
    """A consumer that notes when it last polled, and long-polls the broker instead of sleeping."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.polled_at: float | None = None
        self._fetched_count = 0
        self._user = kwargs.get("sasl_plain_username")
        self._denied: set[str] = set()

    def assigned_partitions(self) -> list[str]:
        """Return the assigned partitions as topic/partition."""
        return [f"{tp.topic}/{tp.partition}" for tp in super().assignment()]  # type: ignore[no-untyped-call]

    async def getmany(self, *partitions: Any, timeout_ms: int = 0, max_records: int | None = None) -> Any:
        """Poll for up to `POLL_SECONDS`: FastStream's short `timeout_ms` is only its pause after an empty answer."""
        if BUSY_RECORDS <= self._fetched_count < (max_records or self._fetched_count) // 2:
            await asyncio.sleep(GATHER_SECONDS)
        self.polled_at = time.monotonic()
        timeout_ms = max(timeout_ms, int(POLL_SECONDS * 1000))
        try:
            records = await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        except kafka.AUTHORIZATION_ERRORS as error:
            # FastStream retries in a few seconds: an operator may grant the right while the service runs
            log.warning("kafka.denied", user=self._user, reason=one_line(error), fix=kafka.GRANT_HINT)
            raise
        self._log_denied_topics()
        self._fetched_count = sum(map(len, records.values()))
        return records

    def _log_denied_topics(self) -> None:
        """Log once the topics that this user may not read: Kafka answers as if they had no partitions."""
        denied = self._client.cluster.unauthorized_topics & super().subscription()  # type: ignore[no-untyped-call]
        if denied - self._denied:
            log.warning("kafka.denied", user=self._user, topics=sorted(denied), fix=kafka.GRANT_HINT)
        self._denied = denied


class Broker(KafkaBroker):
    """FastStream's broker with our consumer class; health checks read its consumers and the progress of its service."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.consumers: list[Consumer] = []
        self.progress = StageProgress()

    def _build_consumer(self, defaults: Mapping[str, Any], **options: Any) -> Consumer:
        consumer = Consumer(**{**defaults, **options})
        self.consumers.append(consumer)
        return consumer

    async def _connect(self) -> Callable[..., AIOKafkaConsumer]:
        builder = await super()._connect()
        defaults = builder.keywords if isinstance(builder, partial) else {}
        self.config.broker_config.builder = partial(self._build_consumer, defaults)
        return self.config.broker_config.builder


def create_broker(settings: Settings, service: str, *, policy: RecordRetries | None = None) -> Broker:
    """Return the broker of `service`: acks from all replicas, idempotent producer, no automatic topic creation."""
    aiokafka_patches.install()
    broker = Broker(
        settings.kafka_bootstrap.split(","),
        security=kafka.security(settings),
        client_id=f"penstock-{service}",
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        # a member that joined while a topic was missing, as after Kafka lost its data, finds it at the next refresh
        metadata_max_age_ms=METADATA_MS,
        max_batch_size=1 << 17,
        max_request_size=MAX_REQUEST_BYTES,
        graceful_timeout=settings.shutdown_grace / 2,
        apply_types=False,
        # FastStream's own lines, such as consumer errors; shared.logs decides their level
        logger=logging.getLogger("faststream"),
    )
    dead_letters, policy = DeadLetters(broker, service), policy or RecordRetries()
    for middleware in (
        KafkaPrometheusMiddleware(registry=METRICS, app_name=f"penstock-{service}"),
        *tracing(settings, service),
        LogContext,
        partial(DeadLetter, dead_letters=dead_letters, policy=policy),
        partial(Retry, policy=policy),
        partial(Envelope, source=service),
    ):
        broker.add_middleware(middleware)
    return broker


async def wait_for_kafka(settings: Settings, group: str = "") -> None:
    """Return if Kafka answers and this client may join `group`; log every refusal for the operator.

    Raises:
        Outage: Kafka does not answer, refuses this client (KafkaRefused), or the user lacks a right (KafkaDenied).

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
    """Log a missing right to publish: the retries of an outage would hide it."""
    try:
        yield
    except Exception as error:
        if isinstance(denied := error.__cause__ or error, kafka.AUTHORIZATION_ERRORS):
            log.warning("kafka.denied", reason=one_line(denied), fix=kafka.GRANT_HINT)
        raise


class Bus:
    """Publishes events of a service, and sends records that it cannot use to the dead letter topic."""

    def __init__(self, broker: Broker, service: str) -> None:
        self._broker = broker
        self.progress = broker.progress
        self._dead_letters = DeadLetters(broker, service)

    async def publish(self, events: Iterable[Event]) -> None:
        """Publish `events`, many in flight, and wait until all replicas have them; the order per key is kept."""
        with _denials_logged():
            acks = [await self._broker.publish(event, type(event).topic.name, no_confirm=True) for event in events]
            await asyncio.gather(*(ack for ack in acks if inspect.isawaitable(ack)))

    async def dead_letter(self, record: Record, error: BaseException) -> None:
        """Send `record` to the dead letter topic of its topic and this service."""
        with _denials_logged():
            await self._dead_letters.dead_letter(record, error)

    async def dead_letter_event(self, event: Event, error: BaseException) -> None:
        """Dead-letter an event whose own record was committed when it became leased work."""
        topic, body = type(event).topic.name, event.model_dump_json().encode()
        await self.dead_letter(
            stored_record(topic, -1, -1, event.record_key.encode("utf-8", "surrogateescape"), body), error
        )


def decode_event(kind: type[Event], *, now: Callable[[], float] = time.time) -> Decode[Event]:
    """Return a decoder of records of `kind`; it raises Rejected with the first validation error."""

    def decode(record: Record) -> Event:
        if record.value is None:
            raise Rejected("EMPTY_RECORD", f"not an event of {kind.topic.name}: the record has no body")
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
    """Raise Rejected (REVISION_AHEAD) for a revision in the future: it would outdate every later change."""
    revision = getattr(event, "revision", 0)
    if revision > (now + CLOCK_TOLERANCE_SECONDS) * MICROSECONDS:
        raise Rejected(
            "REVISION_AHEAD",
            f"revision {revision} lies more than {CLOCK_TOLERANCE_SECONDS / 60:g} minutes ahead of the clock: "
            "the event is forged, or a host's clock is wrong",
        )


@dataclass(frozen=True, slots=True)
class Subscription:
    """A handler, the topics it reads as one stream, and the events it publishes."""

    handler: Handler
    topics: tuple[Topic, ...]
    decode: Decode[Any]
    payload: Any
    max_records: int
    publishes: tuple[type[Event], ...]


@dataclass(slots=True)
class Router:
    """The handlers of one service, filled at import by decorators."""

    service: str
    subscriptions: list[Subscription] = field(default_factory=list)

    def consumes(
        self, *topics: Topic, decode: Decode[Any], payload: Any, max_records: int = 500, publishes: Any = ()
    ) -> Callable[[Handler], Handler]:
        """Return a decorator that subscribes a handler to batches of raw `topics`, decoded by `decode`."""

        def register(handler: Handler) -> Handler:
            subscription = Subscription(handler, topics, decode, payload, max_records, tuple(publishes))
            self.subscriptions.append(subscription)
            return handler

        return register

    def on(self, kind: type[Event], *, max_records: int = 500, publishes: Any = ()) -> Callable[[Handler], Handler]:
        """Return a decorator that subscribes a handler to batches of one event, `Sequence[Received[kind]]`."""
        return self.consumes(
            kind.topic, decode=decode_event(kind), payload=kind, max_records=max_records, publishes=publishes
        )

    def arguments(self) -> set[str]:
        """Return the names of all arguments that `attach` binds: those of the handlers after the first."""
        return {name for one in self.subscriptions for name in _bound_names(one.handler)}

    def attach(self, broker: Broker, **dependencies: Any) -> None:
        """Subscribe every handler, its arguments bound by name, in the consumer group named after the service.

        Raises:
            PenstockError: `dependencies` lacks an argument of a handler; no handler is subscribed then.

        """
        bus = Bus(broker, self.service)
        bound = [(one, _bind(one.handler, dependencies)) for one in self.subscriptions]
        for subscription, handle in bound:
            self._subscribe(broker, subscription, partial(self._deliver, subscription, handle, bus))

    def _subscribe(self, broker: Broker, subscription: Subscription, deliver: Callable[..., Awaitable[None]]) -> None:
        names = [topic.name for topic in subscription.topics]
        subscriber = broker.subscriber(
            *names,
            group_id=self.service,
            batch=True,
            max_records=subscription.max_records,
            batch_timeout_ms=1,
            auto_offset_reset="earliest",
            # a member learns of a rebalance at its next heartbeat, and the group waits for the last member
            heartbeat_interval_ms=HEARTBEAT_MS,
            # range assignment keeps a key's records of all topics of one stream on one member
            partition_assignment_strategy=(RangePartitionAssignor,),
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=_parse,
            decoder=_records_of,
            title=f"{self.service}:{'+'.join(names)}",
            description=inspect.getdoc(subscription.handler),
        )
        subscriber(_endpoint(subscription, partial(_deliver_tracked, subscription, deliver, broker.progress)))
        for kind in subscription.publishes:
            broker.publisher(
                kind.topic.name,
                schema=kind,
                title=f"{self.service}:{kind.topic.name}",
                description=inspect.getdoc(kind),
            )

    async def _deliver(self, subscription: Subscription, handle: Handler, bus: Bus, records: Sequence[Record]) -> None:
        """Decode, handle, publish, dead-letter rejected records; in this order a crash only repeats work."""
        decoded: list[Received[Any]] = []
        rejected: list[tuple[Record, BaseException]] = []
        for record in records:
            if not self._is_addressed_to_service(record):
                continue
            try:
                decoded.append(Received(subscription.decode(record), record))
            except Exception as error:  # noqa: BLE001 - a record that cannot be decoded is rejected, whatever the error
                rejected.append((record, _as_rejection(error)))
        if decoded:
            events = await handle(decoded)
            await bus.publish(events or ())
        rejected.extend((one.record, one.rejection) for one in decoded if one.rejection is not None)
        for record, reason in rejected:
            await bus.dead_letter(record, reason)

    def _is_addressed_to_service(self, record: Record) -> bool:
        only = dict(record.headers).get("dlq_only")
        return only is None or only.decode(errors="replace") == self.service


def _bound_names(handler: Handler) -> list[str]:
    return list(inspect.signature(handler).parameters)[1:]


def _bind(handler: Handler, dependencies: Mapping[str, Any]) -> Handler:
    """Return `handler` with every argument after the batch bound. Raises PenstockError for one that is missing."""
    names = _bound_names(handler)
    if missing := [name for name in names if name not in dependencies]:
        raise PenstockError(
            f"handler {handler.__module__}.{handler.__qualname__} lacks {', '.join(missing)}: "
            "add it to the Resources of build_app"
        )
    return partial(handler, **{name: dependencies[name] for name in names})


async def _deliver_tracked(
    subscription: Subscription, deliver: Callable[..., Awaitable[None]], progress: StageProgress, records: Any
) -> None:
    """Deliver records and report the outcome to `progress`; a failed batch comes again and keeps its start time."""
    name = "+".join(topic.name for topic in subscription.topics)
    progress.begin(name)
    try:
        await deliver(records)
    except Exception as error:
        progress.released(name, error)
        raise
    progress.done(name)


def _as_rejection(error: Exception) -> Rejected:
    return error if isinstance(error, Rejected) else Rejected("UNREADABLE", one_line(error))


def _endpoint(subscription: Subscription, deliver: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return the function that FastStream calls; the AsyncAPI document shows its annotation and docstring."""

    async def endpoint(records: Any) -> None:
        await deliver(records)

    endpoint.__name__ = getattr(subscription.handler, "__name__", "handler")
    endpoint.__doc__ = inspect.getdoc(subscription.handler)
    endpoint.__annotations__ = {"records": list[subscription.payload], "return": None}  # type: ignore[name-defined]
    return endpoint


async def _parse(records: tuple[Record, ...], parse: Callable[..., Awaitable[Any]]) -> Any:
    """Parse without headers: FastStream decodes them as UTF-8, and one invalid header would fail the batch."""
    without_headers = tuple(replace(record, headers=()) for record in records)
    msg = await parse(without_headers)
    msg.raw_message = records
    return msg


async def _records_of(msg: Any) -> Sequence[Record]:
    return records_of(msg)
