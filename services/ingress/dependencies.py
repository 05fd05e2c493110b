"""The dependencies of all routes, opened once."""

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from services.ingress.adapters.consumer_groups import ConsumerGroups
from services.ingress.adapters.deliveries import Sender
from services.ingress.adapters.downloads import Downloads
from services.ingress.adapters.fact_table import FactTable
from services.ingress.adapters.feed import Feed
from services.ingress.adapters.limiter import ConcurrencyLimiter
from services.ingress.adapters.loads import Loads
from services.ingress.adapters.multipart_uploads import MultipartUploads
from services.ingress.adapters.replacement import Replacements
from services.ingress.adapters.tables import Tables
from services.ingress.adapters.tokens import Tokens
from services.ingress.adapters.tus import TusUploads
from services.ingress.adapters.uploads import Uploads
from services.ingress.adapters.views import Views
from services.ingress.adapters.webhook_table import WebhookTable
from services.ingress.core.rate_limiter import RateLimiter
from services.ingress.core.sessions import Sessions
from services.ingress.settings import IngressSettings
from shared.bus import Bus
from shared.postgres import Pool
from shared.storage import ObjectStore


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Store, database, bus, and the adapters built on them."""

    settings: IngressSettings
    store: ObjectStore
    pool: Pool
    bus: Bus
    uploads: Uploads
    downloads: Downloads
    replacements: Replacements
    tus: TusUploads
    multipart: MultipartUploads
    tokens: Tokens
    sessions: Sessions
    rate_limiter: RateLimiter
    bodies: ConcurrencyLimiter
    listings: ConcurrencyLimiter
    statistics: ConcurrencyLimiter
    logins: ConcurrencyLimiter
    views: Views
    consumer_groups: ConsumerGroups
    facts: FactTable
    feed: Feed
    webhooks: WebhookTable
    sender: Sender
    tables: Tables
    loads: Loads


def dependencies_of(connection: HTTPConnection) -> Dependencies:
    """Return the dependencies of the application that serves a request."""
    dependencies: Dependencies = connection.app.state.dependencies
    return dependencies
