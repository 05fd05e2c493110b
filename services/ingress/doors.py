"""What every route may reach, opened once."""

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from services.ingress.adapters.tokens import Tokens
from services.ingress.adapters.uploads import Uploads
from services.ingress.adapters.views import Views
from services.ingress.settings import IngressSettings
from shared.bus import Bus
from shared.postgres import Pool
from shared.storage.store import S3


@dataclass(frozen=True, slots=True)
class Doors:
    """The outside of the ingress: store, database, bus, and what is built on them."""

    settings: IngressSettings
    store: S3
    pool: Pool
    bus: Bus
    uploads: Uploads
    tokens: Tokens
    views: Views


def doors(connection: HTTPConnection) -> Doors:
    """Return the doors of the application that serves a request."""
    opened: Doors = connection.app.state.doors
    return opened
