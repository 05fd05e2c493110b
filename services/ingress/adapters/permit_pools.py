"""The permit pools of one ingress process, by name."""

from collections.abc import Mapping
from typing import Final

from services.ingress.adapters.limiter import ConcurrencyLimiter, PermitPool
from services.ingress.settings import IngressSettings

TRANSFER_SECONDS: Final = 30.0
"""How long an upload or a download waits for a permit."""
QUERY_SECONDS: Final = 3.0
MAX_CHECKSUMS: Final = 8
MAX_CONNECTIONS: Final = 16
"""Connections to Postgres for short queries."""
MAX_BODIES: Final = 64
MAX_LISTINGS: Final = 32
MAX_STATISTICS: Final = 2
MAX_LOGINS: Final = 2
TOO_MANY_STREAMS: Final = "TOO_MANY_STREAMS"


def pools(settings: IngressSettings) -> Mapping[str, PermitPool]:
    """Return every pool of requests by its name."""
    found = (
        PermitPool(
            "uploads", settings.uploads_in_flight, TRANSFER_SECONDS, "PENSTOCK_UPLOADS_IN_FLIGHT", "TOO_MANY_UPLOADS"
        ),
        PermitPool(
            "downloads",
            settings.downloads_in_flight,
            TRANSFER_SECONDS,
            "PENSTOCK_DOWNLOADS_IN_FLIGHT",
            "TOO_MANY_DOWNLOADS",
        ),
        PermitPool("tables", settings.data_streams, QUERY_SECONDS, "PENSTOCK_DATA_STREAMS", TOO_MANY_STREAMS),
        PermitPool("streams", settings.events_streams, 0.0, "PENSTOCK_EVENTS_STREAMS", TOO_MANY_STREAMS),
        PermitPool("checksums", MAX_CHECKSUMS, TRANSFER_SECONDS),
        PermitPool("bodies", MAX_BODIES, QUERY_SECONDS),
        PermitPool("queries", MAX_CONNECTIONS, QUERY_SECONDS),
        PermitPool("listings", MAX_LISTINGS, TRANSFER_SECONDS),
        PermitPool("statistics", MAX_STATISTICS, TRANSFER_SECONDS),
        PermitPool("logins", MAX_LOGINS, QUERY_SECONDS),
    )
    return {pool.name: pool for pool in found}


def limiter(name: str, settings: IngressSettings) -> ConcurrencyLimiter:
    """Return a new limiter for the pool of this name."""
    return ConcurrencyLimiter(pools(settings)[name])
