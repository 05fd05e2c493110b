"""Health by progress: a consumer that no longer polls is dead, even if its probes still answer."""

import asyncio
import json
import time

import pytest
from prometheus_client import CollectorRegistry, Counter

from shared.health import STALL_SECONDS, Health, RenderedMetrics
from shared.stages import StageProgress


class Reader:
    def __init__(self, age=None, held=()):
        self.age = age
        self.held = held

    @property
    def polled_at(self):
        return None if self.age is None else time.monotonic() - self.age

    def assigned_partitions(self):
        return list(self.held)


def health(*readers, started=True):
    made = Health("svc", readers)
    made.started = started
    return made


async def ask(app):
    said = []

    async def send(message):
        said.append(message)

    await app({"type": "http", "method": "GET"}, None, send)
    return said[0]["status"], said[1]["body"]


@pytest.mark.parametrize(
    ("readers", "live", "ready"),
    [
        ((), True, True),
        ((Reader(),), True, False),
        ((Reader(1.0),), True, True),
        ((Reader(1.0), Reader()), True, False),
        ((Reader(1.0), Reader(STALL_SECONDS + 1)), False, False),
    ],
    ids=["no consumer", "never polled", "polls", "one never polled", "one is stuck"],
)
def test_live_if_polling_and_ready_if_joined(readers, live, ready):
    assert (health(*readers).is_live(), health(*readers).is_ready()) == (live, ready)


def test_starting_service_is_not_ready():
    assert not health(Reader(1.0), started=False).is_ready()


def test_report_lists_assigned_partitions():
    said = health(Reader(2.0, ["t/1"]), Reader(1.0, ["t/0"])).report()
    assert said["assigned"] == ["t/0", "t/1"]
    assert 2.0 <= said["seconds_since_poll"] < 3.0


@pytest.mark.parametrize(("age", "status", "word"), [(1.0, 200, "alive"), (STALL_SECONDS + 1, 503, "stalled")])
async def test_probes_answer_with_status_and_report(age, status, word):
    for path, app in health(Reader(age)).routes()[:3]:
        got, body = await ask(app)
        assert (got, json.loads(body)["status"]) == (status, word), path


async def test_metrics_are_prometheus_text():
    registry = CollectorRegistry()
    Counter("drops", "Drops.", registry=registry).inc()
    routes = dict(health().routes(registry))
    status, body = await ask(routes["/metrics"])
    assert status == 200
    assert b"drops_total 1.0" in body


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


async def test_stalled_service_is_live_but_not_ready():
    clock = Clock()
    progress = StageProgress(clock)
    stalled = Health("svc", [Reader(1.0)], progress, stalled_seconds=60)
    stalled.started = True
    progress.begin("objects.changed.v1")
    for _ in range(4):  # the same records, given back to the broker and delivered again
        progress.begin("objects.changed.v1")
        clock.seconds += 20
        progress.released("objects.changed.v1", ConnectionResetError("by the store"))
    assert (stalled.is_live(), stalled.is_ready()) == (True, False)
    status, body = await ask(dict(stalled.routes())["/health/ready"])
    said = json.loads(body)
    assert (status, said["stalled_seconds"], said["stalled_stage"]) == (503, 80, "objects.changed.v1")
    assert "by the store" in said["stalled_reason"]
    progress.done("objects.changed.v1")
    assert stalled.is_ready()
    assert stalled.report()["stalled_seconds"] == 0


def test_stall_names_the_stage_that_has_waited_longest():
    clock = Clock()
    progress = StageProgress(clock)
    progress.begin("first")
    clock.seconds = 5
    progress.begin("second")
    assert (progress.stall().stage, progress.stall().seconds) == ("first", 5)


def test_released_records_do_not_stall_after_takeover():
    clock = Clock()
    progress = StageProgress(clock)
    progress.begin("topic")
    progress.released("topic", ConnectionResetError())
    clock.seconds = 31
    assert progress.stall().seconds == 0


class Counted(CollectorRegistry):
    def __init__(self):
        super().__init__()
        self.renderings = 0

    def collect(self):
        self.renderings += 1
        time.sleep(0.01)
        return super().collect()


async def test_concurrent_scrapes_share_one_rendering():
    registry, now = Counted(), [100.0]
    rendered = RenderedMetrics(registry, clock=lambda: now[0])
    for moment in (100.0, 100.5, 100.99):
        now[0] = moment
        await asyncio.gather(*(rendered.text() for _ in range(100)))
        assert registry.renderings == 1
    now[0] = 101.0
    await rendered.text()
    assert registry.renderings == 2


async def test_cancelled_scrape_does_not_cancel_the_rendering():
    registry = Counted()
    rendered = RenderedMetrics(registry)
    first, second = (asyncio.create_task(rendered.text()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b""
    assert registry.renderings == 1


async def test_failed_rendering_is_retried_at_the_next_scrape():
    registry = Counted()
    rendered = RenderedMetrics(registry)
    registry.collect = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await rendered.text()
    del registry.collect
    assert await rendered.text() == b""
