"""Waiting outages out."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import stamina
import structlog

from shared.errors import Kind, kind_of, one_line

log = structlog.get_logger()
T = TypeVar("T")

WAIT_MAX_SECONDS: Final = 5.0


def is_outage(error: BaseException) -> bool:
    """Whether waiting mends this."""
    return kind_of(error) is Kind.OUTAGE


async def retry_outages(
    action: Callable[[], Awaitable[T]], *, wait_max: float = WAIT_MAX_SECONDS, event: str | None = None
) -> T:
    """Do `action` as often as outages make necessary, with growing waits; the first one is logged as `event`."""
    async for attempt in stamina.retry_context(on=is_outage, attempts=None, timeout=None, wait_max=wait_max):
        with attempt:
            try:
                return await action()
            except Exception as error:
                if event and attempt.num == 1 and is_outage(error):
                    log.warning(event, reason=one_line(error))
                raise
    raise AssertionError  # unreachable: there is always another try
