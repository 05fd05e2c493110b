"""The ingress, wired: a service like every other, and the HTTP application in front of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI

from services.ingress import handlers, routes
from services.ingress.adapters.disk import Disk
from services.ingress.adapters.server import HttpServer
from services.ingress.adapters.tokens import Tokens
from services.ingress.adapters.uploads import Uploads
from services.ingress.adapters.views import Views
from services.ingress.doors import Doors
from services.ingress.routes import answers
from services.ingress.settings import IngressSettings
from shared.bus import Bus
from shared.patience import wait_out
from shared.postgres import migrate, open_pool
from shared.service import VERSION, Resources, Service
from shared.storage.store import S3, open_store

log = structlog.get_logger()


def build_app(settings: IngressSettings) -> Service:
    """Wire the ingress; nothing connects before it runs."""
    return Service(settings, handlers.router, partial(_open, settings), front=partial(_front, settings))


def build_http() -> FastAPI:
    """Return the HTTP application; `state.doors` is what its routes reach."""
    app = FastAPI(title="Penstock", version=VERSION, docs_url=None, redoc_url=None)
    answers.install(app)
    for router in routes.found():
        app.include_router(router)
    return app


@asynccontextmanager
async def _front(settings: IngressSettings, bus: Bus) -> AsyncIterator[None]:
    """Serve HTTP while Kafka and Postgres may still be away: what needs them says so, and uploads need neither."""
    settings.require_secrets()
    async with (
        open_pool(settings.postgres_dsn, service="ingress", wait=False) as pool,
        open_store(settings) as store,
    ):
        app = build_http()
        app.state.doors = Doors(
            settings=settings,
            store=store,
            pool=pool,
            bus=bus,
            uploads=Uploads(store, Disk(settings), settings),
            tokens=Tokens(settings),
            views=Views(pool),
        )
        beside = [asyncio.create_task(job) for job in (_remove_abandoned(store),)]
        try:
            async with HttpServer(app, settings).serving():
                yield
        finally:
            for job in beside:
                job.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


@asynccontextmanager
async def _open(settings: IngressSettings, _bus: Bus) -> AsyncIterator[Resources]:
    await migrate(settings.postgres_dsn, "ingress", "services.ingress.migrations")
    yield Resources({})


async def _remove_abandoned(store: S3) -> None:
    """Remove what a killed ingress had begun and never ended."""
    removed = await wait_out(store.abort_abandoned)
    if removed:
        log.info("uploads.removed", uploads=removed)
