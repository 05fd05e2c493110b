"""A service process: a broker, its handlers and resources, health probes, and a graceful shutdown."""

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import structlog
import uvicorn
from faststream.asgi import AsgiFastStream
from faststream.specification import AsyncAPI

from shared import former_names, logs
from shared.bus import Broker, Bus, Router, create_broker, wait_for_kafka
from shared.errors import PenstockError, one_line
from shared.health import Health
from shared.outages import retry_outages
from shared.settings import Settings

log = structlog.get_logger()

VERSION = "0.1.0"
STUCK_CHECK_SECONDS = 10.0
EX_SOFTWARE = 70
UMASK = 0o077
"""Files of a service are readable by its own user only."""
GC_OBJECTS = 10_000
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


Loop = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources opened at the start: arguments of handlers by name, and background loops."""

    arguments: Mapping[str, Any]
    loops: Sequence[Loop] = field(default=())


OpenResources = Callable[[Bus], AbstractAsyncContextManager[Resources]]
OpenHttpService = Callable[[Bus], AbstractAsyncContextManager[Sequence[Loop]]]


@contextlib.asynccontextmanager
async def _no_http_service(_bus: Bus) -> AsyncIterator[Sequence[Loop]]:
    yield ()


class Service:
    """A wired but unconnected service; `run` connects it and returns after a stop request.

    `http_service` serves HTTP clients: it opens before Kafka and Postgres answer, closes last, and yields loops that
    run as long as it is open.
    """

    def __init__(
        self,
        settings: Settings,
        router: Router,
        resources: OpenResources,
        http_service: OpenHttpService = _no_http_service,
    ) -> None:
        self.name = router.service
        self.settings = settings
        self.broker: Broker = create_broker(settings, self.name)
        self.health = Health(
            self.name, self.broker.consumers, self.broker.progress, stalled_seconds=settings.stalled_seconds
        )
        self.router = router
        self._resources = resources
        self._http_service = http_service
        self._running: list[asyncio.Task[None]] = []
        self._failure: BaseException | None = None
        self._serving: asyncio.Task[None] | None = None
        self.app = AsgiFastStream(
            self.broker,
            asgi_routes=self.health.routes(),
            lifespan=self._lifespan,
            after_startup=[self._start_loops],
            # before the broker closes: loops still publish what they finish within the grace time
            on_shutdown=[self._stop_loops],
            specification=AsyncAPI(title=f"Penstock {self.name}", version=VERSION),
            logger=None,
        )
        self._loops: Sequence[Loop] = ()
        self.server = _Server(
            uvicorn.Config(
                self.app,
                host=settings.health_host,
                port=settings.health_port,
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=int(settings.shutdown_grace),
            )
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        bus = Bus(self.broker, self.name)
        async with self._http_service(bus) as loops:
            self._start_tasks(loops)
            try:
                async with self._connected(bus) as opened:
                    self.router.attach(self.broker, **opened.arguments)
                    self._loops = opened.loops
                    try:
                        yield
                    finally:
                        if not self.server.should_exit:
                            self._fail(PenstockError("the broker could not be started: see the errors above"))
                        await self._stop_loops()
            finally:
                await self._stop_loops()

    @contextlib.asynccontextmanager
    async def _connected(self, bus: Bus) -> AsyncIterator[Resources]:
        await retry_outages(lambda: wait_for_kafka(self.settings, self.name))
        async with self._resources(bus) as opened:
            yield opened

    async def _start_loops(self) -> None:
        self._start_tasks((self.health.watch_loop, self._watch_progress, *self._loops))
        self.health.started = True
        log.info("service.started", health=f"http://{self.settings.health_host}:{self.settings.health_port}/health")

    def _start_tasks(self, loops: Sequence[Loop]) -> None:
        for loop in loops:
            task: asyncio.Task[None] = asyncio.ensure_future(_run(loop))
            task.add_done_callback(self._on_task_end)
            self._running.append(task)

    async def _stop_loops(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """Stop the service if one of its loops fails: a restart is better than half a service."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        log.error("service.failed", reason=one_line(error), exc_info=error)
        self._failure = error
        self.stop()

    async def _watch_progress(self) -> None:
        """Fail if a consumer no longer polls; the supervisor restarts the service."""
        while True:
            await asyncio.sleep(STUCK_CHECK_SECONDS)
            if not self.health.is_live():
                raise PenstockError(f"no poll for {self.health.seconds_since_poll():.0f} s; the consumer is stuck")

    def stop(self) -> None:
        """Request a graceful shutdown; cancel a service that is still waiting for its servers."""
        self.server.should_exit = True
        if self._serving is not None and not self.server.started:
            self._serving.cancel()

    async def serve(self) -> int:
        """Run until `stop` is called; return the exit code."""
        started = time.monotonic()
        self._serving = asyncio.ensure_future(self.server.serve())
        await asyncio.wait((self._serving,))
        log.info("service.stopped", seconds=round(time.monotonic() - started, 1))
        if self._serving.cancelled():
            return EX_SOFTWARE if self._failure else 0
        self._serving.result()
        return EX_SOFTWARE if self._failure or not self.server.started else 0


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run`, which may run several services."""
        yield


async def _run(loop: Loop) -> None:
    await loop()


def run(*services: Service) -> int:
    """Run services in this process until SIGTERM or SIGINT; return the exit code."""
    first = services[0]
    os.umask(UMASK)
    _keep_freed_memory()
    _tune_garbage_collector()
    logs.configure(
        "+".join(one.name for one in services), level=first.settings.log_level, fmt=first.settings.log_format
    )

    for former, name in former_names.used_in(os.environ).items():
        log.warning("settings.former_name", former=former, use=name, reason=former_names.warning_of(former, name))

    async def serve_all() -> int:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, _stop, services)
        return max(await asyncio.gather(*(_serve_one(services, one) for one in services)))

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve_all())


async def _serve_one(services: Sequence[Service], service: Service) -> int:
    """Run one of `services`; when it ends for any reason, stop the others."""
    try:
        return await service.serve()
    finally:
        _stop(services)


def _tune_garbage_collector() -> None:
    """Collect cycles after every 10,000 new objects instead of 700, and never scan objects that exist at the start.

    One page of a listing creates 8,000 objects: repeated scans cost as much as creating them.
    https://docs.python.org/3/library/gc.html
    """
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, *gc.get_threshold()[1:])


def _keep_freed_memory() -> None:
    """Let glibc keep up to 32 MiB of freed memory: returned after each chunk of a stream, every page faults in again.

    https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_TRIM_THRESHOLD, 32 << 20)
        libc.mallopt(_M_MMAP_THRESHOLD, 8 << 20)


def _stop(services: Sequence[Service]) -> None:
    for one in services:
        one.stop()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop  # noqa: PLC0415 - only a running service needs it

    return uvloop.new_event_loop
