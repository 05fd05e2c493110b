"""One small process: a broker, its handlers, the resources they need, its probes, and a shutdown that drains."""

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
"""What a service writes is its owner's alone, however it was started."""
GC_OBJECTS = 10_000
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


Loop = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a service opens at its start: arguments of its handlers by name, and loops that run beside them."""

    arguments: Mapping[str, Any]
    loops: Sequence[Loop] = field(default=())


OpenResources = Callable[[Bus], AbstractAsyncContextManager[Resources]]
OpenHttpService = Callable[[Bus], AbstractAsyncContextManager[Sequence[Loop]]]


@contextlib.asynccontextmanager
async def _no_http_service(_bus: Bus) -> AsyncIterator[Sequence[Loop]]:
    yield ()


class Service:
    """A service, wired but not connected; `run` connects it and returns when it was told to stop.

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
        router.attach(self.broker)
        self.health = Health(
            self.name, self.broker.consumers, router.progress, stalled_seconds=settings.stalled_seconds
        )
        self._router = router
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
            # before the broker goes: what they finish in their grace is still published
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
        async with self._http_service(bus) as beside:
            self._run_beside(beside)
            try:
                async with self._connected(bus) as opened:
                    self._router.provided.update(opened.arguments)
                    self._loops = opened.loops
                    try:
                        yield
                    finally:
                        if not self.server.should_exit:
                            self._fail(PenstockError("the broker could not be started"))
                        await self._stop_loops()
            finally:
                await self._stop_loops()

    @contextlib.asynccontextmanager
    async def _connected(self, bus: Bus) -> AsyncIterator[Resources]:
        await retry_outages(lambda: wait_for_kafka(self.settings, self.name))
        async with self._resources(bus) as opened:
            yield opened

    async def _start_loops(self) -> None:
        self._run_beside((self.health.watch_loop, self._watch_progress, *self._loops))
        self.health.started = True
        log.info("service.started", health=f"http://{self.settings.health_host}:{self.settings.health_port}/health")

    def _run_beside(self, loops: Sequence[Loop]) -> None:
        for loop in loops:
            task: asyncio.Task[None] = asyncio.ensure_future(_run(loop))
            task.add_done_callback(self._note_end)
            self._running.append(task)

    async def _stop_loops(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Stop the service when one of its loops fails: half a service is worse than a restart."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        log.error("service.failed", reason=one_line(error), exc_info=error)
        self._failure = error
        self.stop()

    async def _watch_progress(self) -> None:
        """Stop a service whose consumer no longer polls; its supervisor starts a fresh one."""
        while True:
            await asyncio.sleep(STUCK_CHECK_SECONDS)
            if not self.health.is_live():
                raise PenstockError(f"no poll for {self.health.seconds_since_poll():.0f} s; the consumer is stuck")

    def stop(self) -> None:
        """Ask for a shutdown that drains; one that still waits for its servers has nothing to drain."""
        self.server.should_exit = True
        if self._serving is not None and not self.server.started:
            self._serving.cancel()

    async def serve(self) -> int:
        """Run until told to stop; return the exit code."""
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
        """Leave signals to `run`, which may hold several services."""
        yield


async def _run(loop: Loop) -> None:
    await loop()


def run(*services: Service) -> int:
    """Run services in this process until SIGTERM or SIGINT; return the exit code."""
    first = services[0]
    os.umask(UMASK)
    _keep_freed_memory()
    _collect_seldom()
    logs.configure(
        "+".join(one.name for one in services), level=first.settings.log_level, fmt=first.settings.log_format
    )

    for former, name in former_names.used_in(os.environ).items():
        log.warning("settings.former_name", former=former, use=name, reason=former_names.warning_of(former, name))

    async def serve_all() -> int:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, _stop, services)
        return max(await asyncio.gather(*(_serve_among(services, one) for one in services)))

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve_all())


async def _serve_among(services: Sequence[Service], one: Service) -> int:
    """Run one of `services`; when it ends, for whatever reason, so do the others."""
    try:
        return await one.serve()
    finally:
        _stop(services)


def _collect_seldom() -> None:
    """Look for cycles after every 10,000 new objects, not 700, and never among what was there at the start.

    A page of a listing alone makes 8,000 objects: looked through again and again they cost as much as they did to make.
    https://docs.python.org/3/library/gc.html
    """
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, *gc.get_threshold()[1:])


def _keep_freed_memory() -> None:
    """Let glibc keep up to 32 MiB that was freed: given back after each chunk of a stream, its pages fault in anew.

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
