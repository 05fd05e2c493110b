"""Try again: outages with patience, the unknown a few times (`dead_letter` does that), rejected data never."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import stamina
from faststream import BaseMiddleware

from shared.errors import Kind, kind_of


@dataclass(frozen=True, slots=True)
class RecordRetries:
    """How long to wait between tries, in seconds.

    An outage is waited out for `outage_seconds` seconds and then given back to the broker, which hands the same records
    out again: the wait has no end, yet the consumer polls well within `max_poll_interval_ms` and stays in its group.
    """

    outage_seconds: float = 60.0
    outage_wait_max: float = 5.0
    max_unknown_attempts: int = 3
    unknown_wait_max: float = 2.0

    def retry_outages(self) -> AsyncIterator[Any]:
        """Tries while the other side is away."""
        return stamina.retry_context(
            on=lambda error: kind_of(error) is Kind.OUTAGE,
            attempts=None,
            timeout=self.outage_seconds,
            wait_initial=0.1,
            wait_max=self.outage_wait_max,
        )

    def retry_unknown(self) -> AsyncIterator[Any]:
        """Tries for errors nobody has named."""
        return stamina.retry_context(
            on=lambda error: kind_of(error) is Kind.UNKNOWN,
            attempts=self.max_unknown_attempts,
            timeout=None,
            wait_initial=0.1,
            wait_max=self.unknown_wait_max,
        )


class Retry(BaseMiddleware[Any, Any]):
    """Runs the rest of the chain again while the other side is away; handlers are safe to repeat."""

    def __init__(self, msg: Any, /, *, policy: RecordRetries, **kwargs: Any) -> None:
        super().__init__(msg, **kwargs)
        self._policy = policy

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        """Call on until it works, or until the policy gives up and the error goes outward."""
        async for wait in self._policy.retry_outages():
            with wait:
                return await call_next(msg)
        raise AssertionError  # unreachable: the last try raises
