"""The ingress without a server: its HTTP application on a store in memory."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import httpx

from services.ingress.adapters.disk import Disk
from services.ingress.adapters.tokens import Tokens
from services.ingress.adapters.uploads import Uploads
from services.ingress.app import build_http
from services.ingress.settings import IngressSettings
from shared.testing.objects import MemoryStore

TOKEN = "the-first-token"
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def settings(**changes):
    return IngressSettings(**{"token": TOKEN, "secret_key": KEY, **changes})


@dataclass
class Front:
    """An application with what its routes reach; `doors` takes whatever a test wants to be there."""

    settings: IngressSettings = field(default_factory=settings)
    store: MemoryStore = field(default_factory=lambda: MemoryStore("inbox", "src-data", "jobs", "runs", "uploads"))

    def __post_init__(self):
        self.app = build_http()
        self.doors = SimpleNamespace(
            settings=self.settings,
            store=self.store,
            uploads=Uploads(self.store, Disk(self.settings), self.settings),
            tokens=Tokens(self.settings),
        )
        self.app.state.doors = self.doors

    def client(self, token=TOKEN):
        """Return a client that sends this token; None sends none."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=headers)
