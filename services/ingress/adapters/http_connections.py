"""HTTP connections with limits: their number, time and size of request heads, and unread answers."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.ingress.adapters.limiter import REFUSED, Shares
from services.ingress.adapters.outgoing import OutgoingWatch
from services.ingress.core.problems import MEDIA_TYPE, HttpProblem, body_of, headers_of, status_of
from services.ingress.settings import IngressSettings
from shared.errors import PenstockError, Rejected

MAX_HEAD_BYTES: Final = 64 << 10
MAX_ADDRESS_BYTES: Final = 16 << 10
MAX_PARAMETERS: Final = 200
MAX_PIPELINED: Final = 16
"""Pipelined requests that may wait on one connection."""
MAX_REFUSED: Final = 64
"""Connections that are refused with an answer at a time; more are closed without one."""
HEADER_OVERHEAD: Final = 32
"""Bytes added per header, so that thousands of empty headers exceed the limit too."""
HTTP_LOG: Final = logging.getLogger("services.ingress.http")
"""Logs errors only: strangers could fill a disk with the warnings of uvicorn, one for each bad request."""
HTTP_LOG.setLevel(logging.ERROR)
TRAILERS: Final = "penstock.trailers"
"""Key in the ASGI scope: names of the trailer fields of a request."""
LINGER_SECONDS: Final = 2.0
WRITE_AHEAD: Final = 512 << 10
"""Bytes of an answer that may wait for the network while the next ones are fetched."""


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection; refuses late or oversized heads and drops clients that read nothing."""

    def __init__(self, limits: IngressSettings, slots: "ConnectionSlots", **given: Any) -> None:
        super().__init__(**given)
        self.logger = HTTP_LOG
        self._limits = limits
        self._slots = slots
        self._outgoing: OutgoingWatch | None = None
        self._cause: Rejected | None = None
        self._is_in_head = False
        self._is_refused = False
        self._raw_bytes = 0
        self._head_bytes = 0
        self._hosts = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_AHEAD)
        _end_when_nothing_is_taken(transport, self._limits.stall_seconds)
        self._outgoing = OutgoingWatch(transport, self._limits)
        if refusal := self._slots.enter(self):
            self._refuse(refusal)
        elif not transport.is_closing():
            self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._set_deadline(None)
        if self._outgoing is not None:
            self._outgoing.stop()
        self._slots.leave(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Hold the answer back until the client has taken some of it, and see that it does."""
        super().pause_writing()
        self._watch_outgoing()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; refuse a head that exceeds the limit before it is complete."""
        if self._is_refused:
            return
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head and not self._is_refused:
            self._raw_bytes += len(data)
            if self._raw_bytes > MAX_HEAD_BYTES:
                self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        if not self._is_in_head:
            self._begin_head()

    def on_url(self, url: bytes) -> None:
        """Count the address as part of the head."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; two of Host are none, for a proxy may have believed the other one."""
        self._count(len(name) + len(value) + HEADER_OVERHEAD)
        self._hosts += name.lower() == b"host"
        if self._hosts > 1:
            raise Rejected("NO_HTTP", "the request has two Host headers: send one")
        if self._is_in_head:
            super().on_header(name, value)
        else:  # uvicorn would treat a trailer as a header
            cast("dict[str, Any]", self.scope).setdefault(TRAILERS, set()).add(name.decode("latin-1").lower())

    def on_headers_complete(self) -> None:
        """Start the application; from here on the body has its own time limits."""
        self._is_in_head = False
        self._set_deadline(None)
        self._check_address()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise self._save_cause(
                Rejected("NO_HTTP", f"more than {MAX_PIPELINED} requests wait here: send them later")
            )
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Start the keep-alive timer if the answer was sent before the request ended."""
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:
            self._set_deadline(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_response_complete(self) -> None:
        """Read the rest of a body that was answered early, for a limited time."""
        super().on_response_complete()
        self._watch_outgoing()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._set_deadline(self._limits.header_seconds, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or was cut off for its size, with a problem."""
        self._refuse(self._cause or Rejected("NO_HTTP", f"{msg.rstrip('.')}: send HTTP/1.1"))

    def _begin_head(self) -> None:
        self._is_in_head, self._raw_bytes, self._head_bytes, self._hosts = True, 0, 0, 0
        self._set_deadline(self._limits.header_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._is_answering():
            self._set_deadline(self._limits.header_seconds, self._head_is_late)
        else:
            waited = self._limits.header_seconds
            self._refuse(
                Rejected("STALLED", f"the head of the request did not come within {waited:g} s: send it whole")
            )

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise self._save_cause(_too_large())

    def _check_address(self) -> None:
        """Refuse an overlong URL before it is parsed, which happens before authentication."""
        if len(self.url) > MAX_ADDRESS_BYTES:
            raise self._save_cause(
                Rejected("ADDRESS_TOO_LONG", f"the address has more than {MAX_ADDRESS_BYTES} bytes: shorten it")
            )
        if self.url.partition(b"?")[2].count(b"&") >= MAX_PARAMETERS:
            raise self._save_cause(
                Rejected("ADDRESS_TOO_LONG", f"the address has more than {MAX_PARAMETERS} parameters: send fewer")
            )

    def _save_cause(self, error: Rejected) -> Rejected:
        """Save the cause: the parser itself reports only that a callback failed."""
        self._cause = error
        return error

    def _watch_outgoing(self) -> None:
        if self._outgoing is not None:
            self._outgoing.start()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: PenstockError) -> None:
        """Send the error and keep reading briefly: an immediate close could reset it before it is read."""
        self._is_refused = True
        if self._is_answering():
            self.transport.close()
            return
        body = json.dumps(body_of(error)).encode()
        named = {"content-type": MEDIA_TYPE, "content-length": len(body), **headers_of(error), "connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items()) + "\r\n"
        self.transport.write(STATUS_LINE[status_of(error)] + head.encode() + body)
        self.transport.write_eof()
        self._set_deadline(LINGER_SECONDS, self.transport.close)

    def _set_deadline(self, seconds: float | None, then: Callable[[], None] = lambda: None) -> None:
        """Do something when so much time has passed; replaces what was to be done before."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, then)


class ConnectionSlots:
    """Room for the connections of one server; an address may hold as many as are free."""

    def __init__(self, settings: IngressSettings) -> None:
        self._max = settings.max_connections
        self._shares = Shares(self._max)
        self._entered: dict[HttpConnection, str] = {}
        self._refused: set[HttpConnection] = set()

    def enter(self, connection: HttpConnection) -> HttpProblem | None:
        """Count a new connection, or return the refusal; beyond MAX_REFUSED the connection is closed at once."""
        address = connection.client[0] if connection.client else "?"
        if self._shares.allows(address):
            self._shares.acquire(address)
            self._entered[connection] = address
            return None
        is_full = not self._shares.free
        REFUSED.labels("connections", "full" if is_full else "share").inc()
        if len(self._refused) >= MAX_REFUSED:
            connection.transport.abort()
            return None
        self._refused.add(connection)
        whose = f"this address has {self._shares.held_by(address)}" if not is_full else "there are"
        return HttpProblem(
            "TOO_MANY_CONNECTIONS" if is_full else "SHARE_USED_UP",
            f"{whose} of {self._max} connections (PENSTOCK_MAX_CONNECTIONS): close some, or try again later",
            headers={"retry-after": "5"},
        )

    def leave(self, connection: HttpConnection) -> None:
        """Make room for another one."""
        self._refused.discard(connection)
        if (address := self._entered.pop(connection, None)) is not None:
            self._shares.release(address)


def _too_large() -> Rejected:
    return Rejected("HEAD_TOO_LARGE", f"address and headers have more than {MAX_HEAD_BYTES} bytes: send fewer of them")


def _end_when_nothing_is_taken(transport: asyncio.Transport, seconds: float) -> None:
    """Set TCP_USER_TIMEOUT, so that the kernel closes a connection whose client acknowledges nothing."""
    sock = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * seconds))
