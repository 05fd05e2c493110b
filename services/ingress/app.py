"""The ingress, wired: a service like every other, and the HTTP application in front of it."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import structlog
from fastapi import Depends, FastAPI

from services.ingress import handlers, routes, workers
from services.ingress.adapters import rebuilding
from services.ingress.adapters.assets import PATH, Assets
from services.ingress.adapters.consumer_groups import ConsumerGroups
from services.ingress.adapters.deliveries import Sender
from services.ingress.adapters.disk import Disk
from services.ingress.adapters.downloads import Downloads
from services.ingress.adapters.fact_table import FactTable
from services.ingress.adapters.feed import Feed
from services.ingress.adapters.loads import Loads
from services.ingress.adapters.multipart_uploads import MultipartUploads
from services.ingress.adapters.permit_pools import MAX_CONNECTIONS, limiter
from services.ingress.adapters.postgres_pool import share_connections
from services.ingress.adapters.replacement import Replacements
from services.ingress.adapters.server import HttpServer
from services.ingress.adapters.tables import Tables
from services.ingress.adapters.token_table import TokenTable
from services.ingress.adapters.tokens import Tokens
from services.ingress.adapters.tus import TusUploads
from services.ingress.adapters.upload_cleanup import UploadCleanup
from services.ingress.adapters.uploads import Uploads
from services.ingress.adapters.views import Views
from services.ingress.adapters.webhook_table import WebhookTable
from services.ingress.core.rate_limiter import RateLimiter
from services.ingress.core.sessions import Sessions
from services.ingress.dependencies import Dependencies
from services.ingress.routes import error_handlers, matching
from services.ingress.routes.auth_middleware import AuthMiddleware
from services.ingress.routes.honored_headers import refuse_unhonored_headers
from services.ingress.routes.metrics import Metrics
from services.ingress.routes.openapi_document import Application
from services.ingress.routes.security_headers import SecurityHeaders
from services.ingress.settings import IngressSettings
from shared.bus import Bus
from shared.events import SweepRequested
from shared.loops import periodically
from shared.outages import retry_outages
from shared.postgres import migrate, open_pool
from shared.service import VERSION, Loop, Resources, Service
from shared.storage import ObjectRef, ObjectStore, open_store

log = structlog.get_logger()

CLEANUP_SECONDS = 15.0


def build_app(settings: IngressSettings) -> Service:
    """Wire the ingress; connect to nothing before it runs."""
    return Service(settings, handlers.router, partial(_open, settings), http_service=partial(_front, settings))


def build_http() -> FastAPI:
    """Return the HTTP application; routes find their dependencies in `state.dependencies`."""
    app = Application(
        title="Penstock",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(refuse_unhonored_headers)],
    )
    error_handlers.register_handlers(app)
    matching.install(app)
    app.add_middleware(AuthMiddleware)
    app.add_middleware(error_handlers.UnhandledErrors)
    app.add_middleware(Metrics)
    app.add_middleware(SecurityHeaders)
    for router in routes.found():
        app.include_router(router)
    app.mount(PATH, Assets())
    app.state.navigation = routes.navigation()
    return app


def sessions_of(settings: IngressSettings) -> Sessions:
    """Return what signs the sessions of browsers."""
    return Sessions(settings.key_bytes, settings.token.get_secret_value(), is_https=settings.is_https)


@asynccontextmanager
async def _front(settings: IngressSettings, bus: Bus) -> AsyncIterator[Sequence[Loop]]:
    """Serve HTTP even while Kafka and Postgres are away: requests that need them fail with 503, uploads work."""
    settings.require_secrets()
    settings.require_parts_user()
    async with (
        open_pool(settings.postgres_dsn, service="ingress", max_size=MAX_CONNECTIONS, wait=False) as pool,
        open_pool(settings.postgres_dsn, service="ingress-data", max_size=settings.data_streams, wait=False) as streams,
        open_store(settings) as store,
        AsyncExitStack() as stack,
    ):
        app, tokens, tus = build_http(), Tokens(settings, TokenTable(pool)), TusUploads(store, settings)
        uploads, parts = Uploads(store, Disk(settings), settings), MultipartUploads(store, settings)
        replacements = Replacements(store, uploads, settings.staging_bucket)
        facts, hooks, sender = FactTable(pool), WebhookTable(pool), Sender(settings)
        feed = Feed(facts, limiter("streams", settings))
        tokens.on_ended(feed.notify)
        app.state.dependencies = Dependencies(
            settings=settings,
            store=store,
            pool=pool,
            bus=bus,
            uploads=uploads,
            downloads=Downloads(store, settings),
            replacements=replacements,
            tus=tus,
            multipart=parts,
            tokens=tokens,
            sessions=sessions_of(settings),
            rate_limiter=RateLimiter(),
            bodies=limiter("bodies", settings),
            listings=limiter("listings", settings),
            statistics=limiter("statistics", settings),
            logins=limiter("logins", settings),
            views=Views(pool),
            consumer_groups=ConsumerGroups(settings),
            facts=facts,
            feed=feed,
            webhooks=hooks,
            sender=sender,
            tables=Tables(pool, streams, settings),
            loads=Loads(pool, bus, settings.key_bytes),
        )
        app.openapi()  # generated at start, not during a request
        stack.enter_context(share_connections(pool, limiter("queries", settings)))
        async with HttpServer(app, settings).serving():
            try:
                yield (
                    partial(_remove_abandoned, store, partial(_request_sweep, settings, bus)),
                    tokens.refresh_forever,
                    tus.remove_expired_forever,
                    parts.remove_expired_forever,
                    UploadCleanup(tokens, tus, parts).run,
                    replacements.finish_forever,
                    partial(feed.listen, settings.postgres_dsn),
                    partial(workers.delete_old_facts, facts, timedelta(days=settings.facts_kept_days)),
                    workers.Deliverer(hooks, feed, sender, settings).run,
                )
            finally:
                feed.close()


@asynccontextmanager
async def _open(settings: IngressSettings, _bus: Bus) -> AsyncIterator[Resources]:
    await migrate(settings.postgres_dsn, "ingress", "services.ingress.migrations")
    async with open_pool(settings.postgres_dsn, service="ingress-facts", max_size=2) as pool:
        topics = [topic.name for one in handlers.router.subscriptions for topic in one.topics]
        await retry_outages(lambda: rebuilding.rewind_if_lost(pool, settings, handlers.router.service, topics))
        yield Resources({"facts": FactTable(pool)})


async def _remove_abandoned(store: ObjectStore, on_unknown_outcome: Callable[[ObjectRef], Awaitable[None]]) -> None:
    """Periodically abort uploads that a killed ingress left behind, or that could not be aborted during an outage."""

    async def remove() -> None:
        if removed := await store.abort_abandoned(on_unknown_outcome):
            log.info("uploads.removed", uploads=removed)

    await periodically(remove, CLEANUP_SECONDS, event="uploads.not_removed")


async def _request_sweep(settings: IngressSettings, bus: Bus, ref: ObjectRef) -> None:
    """Request a sweep for an object that may have been stored without a notification."""
    if ref.bucket in settings.input_buckets:
        sweep_id = uuid.uuid4().hex
        await bus.publish(
            [SweepRequested(sweep_id=sweep_id, buckets=(ref.bucket,), prefix=ref.key, correlation_id=sweep_id)]
        )
        log.info("upload.in_doubt", bucket=ref.bucket, key=ref.key, sweep_id=sweep_id)
