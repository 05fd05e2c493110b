"""The pools of one ingress, by name: everything that many requests share and that there is only so much of."""

from collections.abc import Mapping
from typing import Final

from services.ingress.adapters.limiter import ConcurrencyLimiter, Pool
from services.ingress.settings import IngressSettings

TRANSFER_SECONDS: Final = 30.0
"""How long an upload or a download waits for a permit."""
QUESTION_SECONDS: Final = 3.0
CHECKED_AT_ONCE: Final = 8
CONNECTIONS: Final = 16
"""Connections to Postgres for short queries."""
BODIES_AT_ONCE: Final = 64
LISTINGS_AT_ONCE: Final = 32
STATISTICS_AT_ONCE: Final = 2
LOGINS_AT_ONCE: Final = 2
TOO_MANY_STREAMS: Final = "TOO_MANY_STREAMS"


def pools(settings: IngressSettings) -> Mapping[str, Pool]:
    """Return every pool of requests by its name."""
    found = (
        Pool("uploads", settings.uploads_in_flight, TRANSFER_SECONDS, "PENSTOCK_UPLOADS_IN_FLIGHT", "TOO_MANY_UPLOADS"),
        Pool(
            "downloads",
            settings.downloads_in_flight,
            TRANSFER_SECONDS,
            "PENSTOCK_DOWNLOADS_IN_FLIGHT",
            "TOO_MANY_DOWNLOADS",
        ),
        Pool("tables", settings.data_streams, QUESTION_SECONDS, "PENSTOCK_DATA_STREAMS", TOO_MANY_STREAMS),
        Pool("streams", settings.events_streams, 0.0, "PENSTOCK_EVENTS_STREAMS", TOO_MANY_STREAMS),
        Pool("checksums", CHECKED_AT_ONCE, TRANSFER_SECONDS),
        Pool("bodies", BODIES_AT_ONCE, QUESTION_SECONDS),
        Pool("queries", CONNECTIONS, QUESTION_SECONDS),
        Pool("listings", LISTINGS_AT_ONCE, TRANSFER_SECONDS),
        Pool("statistics", STATISTICS_AT_ONCE, TRANSFER_SECONDS),
        Pool("logins", LOGINS_AT_ONCE, QUESTION_SECONDS),
    )
    return {pool.name: pool for pool in found}


def limiter(name: str, settings: IngressSettings) -> ConcurrencyLimiter:
    """Return a limiter of the pool of this name, with nothing held yet."""
    return ConcurrencyLimiter(pools(settings)[name])
