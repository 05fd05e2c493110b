"""Health is progress, not ping: a consumer that stopped asking for records is dead, however well it answers."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from faststream.asgi import AsgiResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client import REGISTRY as METRICS

from shared.bus import Consumer
from shared.progress import Progress

log = structlog.get_logger()

STALL_SECONDS = 240.0
"""Longer than any handler may wait out an outage, shorter than the broker's own limit (`max_poll_interval_ms`)."""

LOOP_LAG = Gauge("penstock_loop_lag_seconds", "How late the event loop wakes; seconds above 1 stop heartbeats.")
LOOP_LAG_MAX = Gauge("penstock_loop_lag_max_seconds", "The longest the event loop was ever late.")
STALLED = Gauge(
    "penstock_stalled_seconds", "Seconds since records or work in hand last made progress; 0: none waits.", ["service"]
)
ASSIGNED = Gauge("penstock_assigned_partitions", "Partitions this process reads.", ["service"])


RENDERINGS = Counter("penstock_metrics_renderings_total", "Renderings of the metrics; those who ask share them.")


class RenderedMetrics:
    """Prometheus text of a registry, rendered in a thread, and no more often than every `seconds`.

    One rendering holds the interpreter for tens of milliseconds, and anybody may ask: all who ask meanwhile share it.
    """

    def __init__(
        self, registry: CollectorRegistry, *, seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._seconds = seconds
        self._clock = clock
        self._text = b""
        self._rendered_at: float | None = None
        self._rendering: asyncio.Task[bytes] | None = None

    async def text(self) -> bytes:
        """Return the metrics as they were within the last `seconds`."""
        if self._rendered_at is not None and self._clock() - self._rendered_at < self._seconds:
            return self._text
        if self._rendering is None or self._rendering.done():
            self._rendering = asyncio.create_task(self._render())
        return await asyncio.shield(self._rendering)

    async def _render(self) -> bytes:
        self._text = await asyncio.to_thread(generate_latest, self._registry)
        self._rendered_at = self._clock()
        RENDERINGS.inc()
        return self._text


RENDERED_METRICS = RenderedMetrics(METRICS)
"""Of this process, whichever port they are asked at."""


class Health:
    """What the probes of one service answer."""

    def __init__(
        self,
        service: str,
        consumers: Sequence[Consumer],
        progress: Progress | None = None,
        *,
        stalled_seconds: float = 60.0,
    ) -> None:
        self._service = service
        self._consumers = consumers
        self._progress = progress or Progress()
        self._stalled_seconds = stalled_seconds
        self.started = False
        self._lag = 0.0

    async def watch_loop(self, every: float = 0.5) -> None:
        """Measure for ever how late the loop wakes, and say so when it was blocked."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(every)
            self._lag = max(0.0, time.monotonic() - before - every)
            LOOP_LAG.set(self._lag)
            LOOP_LAG_MAX.set(max(self._lag, LOOP_LAG_MAX._value.get()))  # noqa: SLF001 - a gauge has no reader
            ASSIGNED.labels(self._service).set(len(self.assigned()))
            STALLED.labels(self._service).set(self._progress.stall().seconds)
            if self._lag > 1.0:
                log.warning("loop.blocked", seconds=round(self._lag, 2))

    def assigned(self) -> list[str]:
        """Return the partitions this process reads, as topic/partition."""
        return sorted(held for one in self._consumers for held in one.assigned_partitions())

    def seconds_since_poll(self) -> float | None:
        """Return the age of the oldest consumer's last poll; None before the first."""
        polled = [one.polled_at for one in self._consumers]
        return None if None in polled or not polled else time.monotonic() - min(at for at in polled if at)

    def report(self) -> dict[str, Any]:
        """Return everything the probes know."""
        idle, stall = self.seconds_since_poll(), self._progress.stall()
        return {
            "service": self._service,
            "started": self.started,
            "assigned": self.assigned(),
            "seconds_since_poll": None if idle is None else round(idle, 3),
            "loop_lag_seconds": round(self._lag, 3),
            "stalled_seconds": round(stall.seconds, 3),
            "stalled_stage": stall.stage,
            "stalled_reason": stall.reason,
        }

    def is_live(self) -> bool:
        """Whether the service still makes progress; before the first poll it is starting, not dead."""
        idle = self.seconds_since_poll()
        return idle is None or idle < STALL_SECONDS

    def is_stalled(self) -> bool:
        """Whether records or work have waited for too long: a restart would not help, a person may."""
        return self._progress.stall().seconds > self._stalled_seconds

    def is_ready(self) -> bool:
        """Whether the service is started, has joined its group and makes progress."""
        has_joined = not self._consumers or self.seconds_since_poll() is not None
        return self.started and self.is_live() and has_joined and not self.is_stalled()

    def routes(self, registry: CollectorRegistry = METRICS) -> list[tuple[str, Any]]:
        """Return the probe and metric routes."""
        return [
            ("/health/live", _answer(self.is_live, self.report)),
            ("/health/ready", _answer(self.is_ready, self.report)),
            ("/health", _answer(self.is_live, self.report)),
            ("/metrics", _metrics(registry)),
        ]


def _answer(check: Callable[[], bool], report: Callable[[], dict[str, Any]]) -> Any:
    async def probe(scope: Any, receive: Any, send: Any) -> None:
        fine = check()
        body = json.dumps({"status": "alive" if fine else "stalled", **report()}).encode()
        headers = {"content-type": "application/json"}
        await AsgiResponse(body, 200 if fine else 503, headers)(scope, receive, send)

    return probe


def _metrics(registry: CollectorRegistry) -> Any:
    rendered = RENDERED_METRICS if registry is METRICS else RenderedMetrics(registry)

    async def metrics(scope: Any, receive: Any, send: Any) -> None:
        answer = AsgiResponse(await rendered.text(), 200, {"content-type": CONTENT_TYPE_LATEST})
        await answer(scope, receive, send)

    return metrics
