"""Health by progress: a consumer that stopped polling is dead, even if its HTTP server still answers."""

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
from shared.stages import StageProgress

log = structlog.get_logger()

STALL_SECONDS = 240.0
"""Longer than a handler retries an outage, shorter than the consumer's `max_poll_interval_ms`."""

LOOP_LAG = Gauge("penstock_loop_lag_seconds", "How late the event loop wakes, in seconds; above 1 heartbeats stop.")
LOOP_LAG_MAX = Gauge("penstock_loop_lag_max_seconds", "The longest delay of the event loop since the start.")
STALLED = Gauge(
    "penstock_stalled_seconds", "Seconds since pending records or work last made progress; 0: none.", ["service"]
)
ASSIGNED = Gauge("penstock_assigned_partitions", "Partitions assigned to this process.", ["service"])


RENDERINGS = Counter("penstock_metrics_renderings_total", "Renderings of the metrics; concurrent scrapes share one.")


class RenderedMetrics:
    """Prometheus text of a registry, rendered in a thread at most once per `seconds`.

    A rendering holds the GIL for tens of milliseconds and any client may request it, so concurrent requests share one.
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
        """Return the metrics, at most `seconds` old."""
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
"""The metrics of this process, shared by all its ports."""


class Health:
    """State and answers of the health probes of one service."""

    def __init__(
        self,
        service: str,
        consumers: Sequence[Consumer],
        progress: StageProgress | None = None,
        *,
        stalled_seconds: float = 60.0,
    ) -> None:
        self._service = service
        self._consumers = consumers
        self._progress = progress or StageProgress()
        self._stalled_seconds = stalled_seconds
        self.started = False
        self._lag = 0.0

    async def watch_loop(self, every: float = 0.5) -> None:
        """Measure how late the event loop wakes, until cancelled; log when it was blocked for over a second."""
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
        """Return the partitions assigned to this process, as topic/partition."""
        return sorted(partition for one in self._consumers for partition in one.assigned_partitions())

    def seconds_since_poll(self) -> float | None:
        """Return the longest time since any consumer polled; None until all have polled."""
        polled = [one.polled_at for one in self._consumers]
        return None if None in polled or not polled else time.monotonic() - min(at for at in polled if at)

    def report(self) -> dict[str, Any]:
        """Return the details that every probe answers with."""
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
        """Return whether all consumers still poll; a service before its first poll is starting, not dead."""
        idle = self.seconds_since_poll()
        return idle is None or idle < STALL_SECONDS

    def is_stalled(self) -> bool:
        """Return whether records or work have been pending for too long; a restart would not help."""
        return self._progress.stall().seconds > self._stalled_seconds

    def is_ready(self) -> bool:
        """Return whether the service has started, has joined its group and makes progress."""
        has_joined = not self._consumers or self.seconds_since_poll() is not None
        return self.started and self.is_live() and has_joined and not self.is_stalled()

    def routes(self, registry: CollectorRegistry = METRICS) -> list[tuple[str, Any]]:
        """Return the probe and metric routes."""
        return [
            ("/health/live", _probe(self.is_live, self.report)),
            ("/health/ready", _probe(self.is_ready, self.report)),
            ("/health", _probe(self.is_live, self.report)),
            ("/metrics", _metrics(registry)),
        ]


def _probe(check: Callable[[], bool], report: Callable[[], dict[str, Any]]) -> Any:
    async def probe(scope: Any, receive: Any, send: Any) -> None:
        ok = check()
        body = json.dumps({"status": "alive" if ok else "stalled", **report()}).encode()
        headers = {"content-type": "application/json"}
        await AsgiResponse(body, 200 if ok else 503, headers)(scope, receive, send)

    return probe


def _metrics(registry: CollectorRegistry) -> Any:
    rendered = RENDERED_METRICS if registry is METRICS else RenderedMetrics(registry)

    async def metrics(scope: Any, receive: Any, send: Any) -> None:
        answer = AsgiResponse(await rendered.text(), 200, {"content-type": CONTENT_TYPE_LATEST})
        await answer(scope, receive, send)

    return metrics
