import asyncio

import pytest
from structlog.testing import capture_logs

from shared.errors import Outage, Rejected
from shared.loops import periodically


class Sleeps(list):
    """Sleeps that take no time; the loop is cancelled after `limit` of them."""

    def __init__(self, limit):
        self.limit = limit

    async def __call__(self, seconds):
        self.append(seconds)
        if len(self) == self.limit:
            raise asyncio.CancelledError


def job_of(*results):
    """Give a job that raises or returns one result after the other."""
    left = iter(results)

    async def job():
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return result

    return job


async def run(job, *, limit, **options):
    sleeps = Sleeps(limit)
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await periodically(job, 60.0, event="thing.not_done", sleep=sleeps, **options)
    return sleeps, [line for line in logs if line["event"] == "thing.not_done"]


async def test_job_is_called_by_the_interval_or_after_the_seconds_it_returned():
    sleeps, logs = await run(job_of(None, 0.5, 0.0, None), limit=4)
    assert (sleeps, logs) == ([60.0, 0.5, 0.0, 60.0], [])


async def test_outage_is_logged_once_and_retried_without_waiting_for_the_interval():
    sleeps, logs = await run(job_of(Outage("away"), Outage("away"), None), limit=1)
    assert sleeps == [60.0]
    assert [line["reason"] for line in logs] == ["away"]


async def test_named_errors_are_logged_and_the_loop_goes_on():
    sleeps, logs = await run(
        job_of(Rejected("X", "no such bucket"), ValueError("odd"), 1.0), limit=3, survives=Exception
    )
    assert sleeps == [60.0, 60.0, 1.0]
    assert [(line["log_level"], line["reason"]) for line in logs] == [
        ("warning", "no such bucket"),
        ("error", "ValueError: odd"),
    ]


async def test_other_errors_end_the_loop():
    with pytest.raises(ValueError, match="odd"):
        await periodically(job_of(Rejected("X", "known"), ValueError("odd")), 0.0, event="e", survives=Rejected)
