"""HTTP metrics by route, not by path, so that clients cannot create new series."""

import time
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE: Final = "none"
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

REQUESTS: Final = Counter("penstock_http_requests", "Requests answered.", ["method", "route", "status"])
TOOK: Final = Histogram(
    "penstock_http_request_seconds", "From a request's head to its answer's end.", ["method", "route"], buckets=SECONDS
)
IN_FLIGHT: Final = Gauge("penstock_http_requests_in_flight", "Requests that are being answered.")
BYTES_IN: Final = Counter("penstock_http_request_bytes", "Bytes of bodies received.", ["route"])
BYTES_OUT: Final = Counter("penstock_http_response_bytes", "Bytes of bodies sent.", ["route"])


class Metrics:
    """Count requests and their bytes as they pass, without buffering."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passing = _Passing(receive, send)
        started = time.perf_counter()
        with IN_FLIGHT.track_inprogress():
            try:
                await self._app(scope, passing.receive, passing.send)
            finally:
                passing.count(scope, time.perf_counter() - started)


class _Passing:
    """One request on its way."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._status = 500
        """Status of a request that ended without an answer."""
        self._bytes_in = 0
        self._bytes_out = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    def count(self, scope: Scope, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        REQUESTS.labels(method, route, self._status).inc()
        TOOK.labels(method, route).observe(seconds)
        BYTES_IN.labels(route).inc(self._bytes_in)
        BYTES_OUT.labels(route).inc(self._bytes_out)
