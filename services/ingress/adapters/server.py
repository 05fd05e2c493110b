"""The HTTP server."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from services.ingress.adapters.http_connections import ConnectionSlots, HttpConnection
from services.ingress.settings import IngressSettings
from shared.errors import PenstockError


class HttpServer(uvicorn.Server):
    """uvicorn as a part of a service: signals are the service's."""

    def __init__(self, app: ASGIApp, settings: IngressSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.http_host,
                port=settings.http_port,
                http=cast("Any", partial(HttpConnection, settings, ConnectionSlots(settings))),
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                # uvicorn's default trusts every local client
                forwarded_allow_ips=list(settings.trusted_proxies),
                timeout_graceful_shutdown=max(1, int(settings.shutdown_grace / 2)),
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve inside the block; on exit, finish running requests within the grace time."""
        _allow_open_files()
        serving = asyncio.ensure_future(self.serve())
        try:
            while not self.started:
                if serving.done():
                    raise PenstockError(f"HTTP cannot be served on {self.config.host}:{self.config.port}")
                await asyncio.sleep(0.01)
            yield
        finally:
            self.should_exit = True
            await asyncio.wait((serving,))


def _allow_open_files() -> None:
    """Raise the soft limit of open files to the hard limit: each connection is a file descriptor."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
