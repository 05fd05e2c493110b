"""Retry policy of handlers: outages for `outage_seconds`, unknown errors a few times, rejected data never."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import stamina
from faststream import BaseMiddleware

from shared.errors import Kind, kind_of


@dataclass(frozen=True, slots=True)
class RecordRetries:
    """Limits and waits of retries, in seconds.

    After `outage_seconds` of an outage the batch is returned to the broker, which delivers it again: retries never end,
    yet the consumer polls well within `max_poll_interval_ms` and stays in its group.
    """

    outage_seconds: float = 60.0
    outage_wait_max: float = 5.0
    max_unknown_attempts: int = 3
    unknown_wait_max: float = 2.0

    def retry_outages(self) -> AsyncIterator[Any]:
        """Yield attempts while the error is an outage, for up to `outage_seconds`."""
        return stamina.retry_context(
            on=lambda error: kind_of(error) is Kind.OUTAGE,
            attempts=None,
            timeout=self.outage_seconds,
            wait_initial=0.1,
            wait_max=self.outage_wait_max,
        )

    def retry_unknown(self) -> AsyncIterator[Any]:
        """Yield up to `max_unknown_attempts` attempts while the error is of an unregistered type."""
        return stamina.retry_context(
            on=lambda error: kind_of(error) is Kind.UNKNOWN,
            attempts=self.max_unknown_attempts,
            timeout=None,
            wait_initial=0.1,
            wait_max=self.unknown_wait_max,
        )


class Retry(BaseMiddleware[Any, Any]):
    """Calls the handler again during outages; handlers are idempotent."""

    def __init__(self, msg: Any, /, *, policy: RecordRetries, **kwargs: Any) -> None:
        super().__init__(msg, **kwargs)
        self._policy = policy

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        """Call the handler until it succeeds; raise the last error when the policy ends."""
        async for attempt in self._policy.retry_outages():
            with attempt:
                return await call_next(msg)
        raise AssertionError  # unreachable: the last attempt raises
