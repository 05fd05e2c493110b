"""The ingress without a server: its HTTP application on a store in memory."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import httpx

from services.ingress.adapters.deliveries import Sender
from services.ingress.adapters.disk import Disk
from services.ingress.adapters.downloads import Downloads
from services.ingress.adapters.feed import Feed
from services.ingress.adapters.multipart_uploads import MultipartUploads
from services.ingress.adapters.permit_pools import limiter
from services.ingress.adapters.replacement import Replacements
from services.ingress.adapters.tokens import Tokens
from services.ingress.adapters.tus import TusUploads
from services.ingress.adapters.upload_cleanup import UploadCleanup
from services.ingress.adapters.uploads import Uploads
from services.ingress.app import build_http, sessions_of
from services.ingress.core.rate_limiter import RateLimiter
from services.ingress.settings import IngressSettings
from shared.testing.objects import MemoryStore
from tests.fakes.facts import MemoryFacts, MemoryWebhooks
from tests.fakes.tables import MemoryLoads, MemoryTables
from tests.fakes.tokens import MemoryTokenTable
from tests.fakes.views import MemoryGroups, MemoryViews

TOKEN = "the-first-token"
NO_WAIT = {"load_wait_seconds": 0.0}
"""Nobody loads here."""
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def settings(**changes):
    return IngressSettings(
        **{"token": TOKEN, "secret_key": KEY, "s3_secret_key_parts": "of-the-parts", **NO_WAIT, **changes}
    )


@dataclass
class Ingress:
    """An application with what its routes reach; `doors` takes whatever a test wants to be there."""

    settings: IngressSettings = field(default_factory=settings)
    store: MemoryStore = field(default_factory=lambda: MemoryStore("inbox", "src-data", "jobs", "runs", "uploads"))

    table: MemoryTokenTable = field(default_factory=MemoryTokenTable)
    facts: MemoryFacts = field(default_factory=MemoryFacts)
    now: float = 0.0
    """Seconds on the clock of the rate limits: it stands still unless a test moves it, however slow the machine."""

    def __post_init__(self):
        self.app = build_http()
        uploads = Uploads(self.store, Disk(self.settings), self.settings)
        self.dependencies = SimpleNamespace(
            settings=self.settings,
            store=self.store,
            uploads=uploads,
            downloads=Downloads(self.store, self.settings),
            replacements=Replacements(self.store, uploads, self.settings.staging_bucket),
            tus=TusUploads(self.store, self.settings),
            multipart=MultipartUploads(self.store, self.settings),
            tokens=Tokens(self.settings, self.table),
            sessions=sessions_of(self.settings),
            rate_limiter=RateLimiter(lambda: self.now),
            bodies=limiter("bodies", self.settings),
            listings=limiter("listings", self.settings),
            statistics=limiter("statistics", self.settings),
            logins=limiter("logins", self.settings),
            views=MemoryViews(),
            consumer_groups=MemoryGroups(),
            facts=self.facts,
            feed=Feed(self.facts, limiter("streams", self.settings)),
            webhooks=MemoryWebhooks(self.table),
            sender=Sender(self.settings),
            tables=MemoryTables(),
            loads=MemoryLoads(self.settings.key_bytes),
        )
        self.dependencies.tokens.on_ended(self.dependencies.feed.notify)
        self.ended = UploadCleanup(self.dependencies.tokens, self.dependencies.tus, self.dependencies.multipart)
        self.app.state.dependencies = self.dependencies

    def client(self, token=TOKEN):
        """Return a client that sends this token; None sends none."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers)
