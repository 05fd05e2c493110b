"""A record that cannot be used goes to `<topic>.<service>.dlq`, body and key untouched, why in headers.

One bad record never fails its neighbours: a batch that fails a few times is halved until the bad record stands
alone. Handlers are safe to repeat, so the good halves may run again. The halves are not waited for: a batch of
nothing but bad records must end well within `max_poll_interval_ms`. An outage is nobody's fault and passes through.
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
    "penstock_dead_letters_total", "Records put aside as dead letters.", ["service", "topic", "kind", "code"]
)
MAX_HEADER_BYTES = 4096
"""Bytes of one original header that are kept; longer ones are cut, so that no header can make a letter unsendable."""
MAX_HEADERS = 64
ATTEMPTS_DIGITS = 6


class Publishes(Protocol):
    """Whatever can put raw bytes on a topic; FastStream's broker does."""

    async def publish(
        self, message: Any, topic: str, *, key: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        """Put one record on `topic` and wait until it is safe there."""


def attempts_of(record: Record) -> int:
    """Return how often this record has been a dead letter before."""
    text = dict(record.headers).get("dlq_attempts") or b""
    return int(text) if text.isdigit() and len(text) <= ATTEMPTS_DIGITS else 0


def dead_letter_headers(record: Record, service: str, error: BaseException) -> dict[str, str]:
    """Return the headers of a dead letter: the record's own, then where it stood and why it is here."""
    kept = {
        name: value[:MAX_HEADER_BYTES].decode("utf-8", "backslashreplace")
        for name, value in record.headers[:MAX_HEADERS]
        if value is not None and not name.startswith("dlq_")
    }
    return kept | {
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
    """Buries records of one service."""

    def __init__(self, broker: Publishes, service: str) -> None:
        self._broker = broker
        self._service = service

    async def dead_letter(self, record: Record, error: BaseException) -> None:
        """Put `record` aside; when even that fails it is an outage, so nothing is committed and nothing lost."""
        headers = dead_letter_headers(record, self._service, error)
        topic = f"{record.topic}.{self._service}.dlq"
        try:
            await self._broker.publish(record.value, topic, key=record.key, headers=headers)
        except Exception as failure:
            raise Outage(f"dead letter topic {topic} takes no record: {one_line(failure)}") from failure
        DEAD_LETTERED.labels(self._service, record.topic, headers["dlq_kind"], headers["dlq_code"]).inc()
        log.warning("record.dead_lettered", **{name: headers[name] for name in headers if name.startswith("dlq_")})


class DeadLetter(BaseMiddleware[Any, Any]):
    """Buries the record that the rest of the chain gave up on."""

    def __init__(self, msg: Any, /, *, letters: DeadLetters, policy: RecordRetries, **kwargs: Any) -> None:
        super().__init__(msg, **kwargs)
        self._letters = letters
        self._policy = policy

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        """Call on, a few times; halve a batch that keeps failing until the culprit is alone, and bury it."""

        async def several_times(msg: Any) -> Any:
            async for attempt in self._policy.retry_unknown():
                with attempt:
                    return await call_next(msg)
            raise AssertionError  # unreachable: the last try raises

        return await self._call(several_times, msg, then=call_next)

    async def _call(self, call: Any, msg: Any, *, then: Any) -> Any:
        try:
            return await call(msg)
        except Exception as error:
            if kind_of(error) is Kind.OUTAGE:
                raise
            records = records_of(msg)
            if len(records) == 1:
                return await self._letters.dead_letter(records[0], error)
        middle = len(records) // 2
        for part in (records[:middle], records[middle:]):
            await self._call(then, _with_records(msg, part), then=then)
        return None


def _with_records(msg: Any, records: Sequence[Record]) -> Any:
    part = copy.copy(msg)
    part.raw_message = tuple(records)
    return part
