"""Run a job again and again in the background of a service."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.errors import PenstockError, one_line
from shared.outages import MAX_WAIT_SECONDS, retry_outages

log = structlog.get_logger()

Job = Callable[[], Awaitable[float | None]]
Errors = type[Exception] | tuple[type[Exception], ...]


async def periodically(
    job: Job,
    every: float,
    *,
    event: str,
    survives: Errors = (),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Call `job` until cancelled, `every` seconds after its last call ended or after the seconds that it returned.

    An outage is logged once as `event`, and `job` is retried with growing waits until it has passed. Errors of the
    types `survives` are logged as `event` too, and the next call comes in `every` seconds.

    Raises:
        Exception: any other error of `job`, which ends the loop and thereby the service.

    """
    while True:
        await sleep(await _call(job, every, event, survives))


async def _call(job: Job, every: float, event: str, survives: Errors) -> float:
    """Call `job` once; return the seconds until the next call."""
    try:
        pause = await retry_outages(job, wait_max=min(every, MAX_WAIT_SECONDS), event=event)
    except survives as error:
        report = log.warning if isinstance(error, PenstockError) else log.exception
        report(event, reason=one_line(error))
        return every
    return every if pause is None else pause
