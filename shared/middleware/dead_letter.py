"""Send unusable records to `<topic>.<service>.dlq` with body and key unchanged and the reason in headers.

One bad record never fails its neighbors: the middleware halves a batch that keeps failing until the bad record is
alone. Handlers are idempotent, so the good halves may run again. The halves run without backoff: a batch of only bad
records must end well within `max_poll_interval_ms`. Outages pass through to the broker.
"""

import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from faststream import BaseMiddleware
from prometheus_client import Counter

from shared.errors import Kind, Outage, Rejected, kind_of, one_line
from shared.middleware.records import Record, records_of
from shared.middleware.retry import RecordRetries

log = structlog.get_logger()

DEAD_LETTERED = Counter(
    "penstock_dead_letters_total", "Records sent to dead letter topics.", ["service", "topic", "kind", "code"]
)
MAX_HEADER_BYTES = 4096
"""Bytes kept of one original header; longer ones are cut, so that the dead letter stays below the record size limit."""
MAX_HEADERS = 64
MAX_ATTEMPTS_DIGITS = 6


class Publisher(Protocol):
    """Publishes raw records, as FastStream's broker does."""

    async def publish(
        self, message: Any, topic: str, *, key: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        """Publish one record to `topic` and wait until it is acknowledged."""


def attempts_of(record: Record) -> int:
    """Return how often this record has been dead-lettered before."""
    text = dict(record.headers).get("dlq_attempts") or b""
    return int(text) if text.isdigit() and len(text) <= MAX_ATTEMPTS_DIGITS else 0


def dead_letter_headers(record: Record, service: str, error: BaseException) -> dict[str, str]:
    """Return the headers of a dead letter: the record's own, then its position and the error."""
    original = {
        name: value[:MAX_HEADER_BYTES].decode("utf-8", "backslashreplace")
        for name, value in record.headers[:MAX_HEADERS]
        if value is not None and not name.startswith("dlq_")
    }
    return original | {
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
        "dlq_service": service,
        "dlq_kind": kind_of(error).value,
        "dlq_code": error.code if isinstance(error, Rejected) else type(error).__name__,
        "dlq_reason": one_line(error).encode("utf-8", "backslashreplace").decode(),
        "dlq_attempts": str(attempts_of(record) + 1),
        "dlq_at": datetime.now(UTC).isoformat(),
    }


class DeadLetters:
    """Sends records of one service to dead letter topics."""

    def __init__(self, broker: Publisher, service: str) -> None:
        self._broker = broker
        self._service = service

    async def dead_letter(self, record: Record, error: BaseException) -> None:
        """Send `record` to its dead letter topic.

        Raises:
            Outage: the record could not be published, so its batch is not committed and nothing is lost.

        """
        headers = dead_letter_headers(record, self._service, error)
        topic = f"{record.topic}.{self._service}.dlq"
        try:
            await self._broker.publish(record.value, topic, key=record.key, headers=headers)
        except Exception as failure:
            raise Outage(f"cannot publish to dead letter topic {topic}: {one_line(failure)}") from failure
        DEAD_LETTERED.labels(self._service, record.topic, headers["dlq_kind"], headers["dlq_code"]).inc()
        log.warning("record.dead_lettered", **{name: headers[name] for name in headers if name.startswith("dlq_")})


class DeadLetter(BaseMiddleware[Any, Any]):
    """Dead-letters records that the handler cannot process; retries unknown errors."""

    def __init__(self, msg: Any, /, *, dead_letters: DeadLetters, policy: RecordRetries, **kwargs: Any) -> None:
        super().__init__(msg, **kwargs)
        self._dead_letters = dead_letters
        self._policy = policy

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        """Call the handler with retries; halve a batch that keeps failing, and dead-letter each bad record."""

        async def call_with_retries(msg: Any) -> Any:
            async for attempt in self._policy.retry_unknown():
                with attempt:
                    return await call_next(msg)
            raise AssertionError  # unreachable: the last attempt raises

        return await self._call(call_with_retries, msg, then=call_next)

    async def _call(self, call: Any, msg: Any, *, then: Any) -> Any:
        try:
            return await call(msg)
        except Exception as error:
            if kind_of(error) is Kind.OUTAGE:
                raise
            records = records_of(msg)
            if len(records) == 1:
                return await self._dead_letters.dead_letter(records[0], error)
        middle = len(records) // 2
        for half in (records[:middle], records[middle:]):
            await self._call(then, _with_records(msg, half), then=then)
        return None


def _with_records(msg: Any, records: Sequence[Record]) -> Any:
    changed = copy.copy(msg)
    changed.raw_message = tuple(records)
    return changed
