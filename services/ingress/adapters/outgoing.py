"""Answers that clients read too slowly: watched while bytes wait in the socket, and ended below the least rate."""

import asyncio
import socket
import struct
from typing import Final

import structlog

from services.ingress.adapters.min_rate import TOO_SLOW, MinRate
from services.ingress.settings import IngressSettings

log = structlog.get_logger()

POLL_SECONDS: Final = 1.0
_BYTES_ACKED: Final = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` of `struct tcp_info`, since Linux 4.1: https://man7.org/linux/man-pages/man7/tcp.7.html"""


class OutgoingWatch:
    """Poll, while bytes wait for a client, how many of them it has acknowledged.

    Uses the kernel's counter, because one chunk of an answer may take minutes on a slow line.
    """

    def __init__(self, transport: asyncio.Transport, settings: IngressSettings) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._rate = MinRate(settings)
        self._stall_seconds = settings.stall_seconds
        self._interval = min(POLL_SECONDS, settings.stall_seconds / 4, settings.min_rate_grace_seconds / 4)
        self._timer: asyncio.TimerHandle | None = None
        self._acked, self._at, self._moved_at = 0, 0.0, 0.0

    def start(self) -> None:
        """Begin to watch, unless no bytes wait or the watch runs already."""
        if self._timer is None and not self._transport.is_closing() and self._transport.get_write_buffer_size():
            self._acked, self._at = self._acknowledged(), self._loop.time()
            self._moved_at = self._at
            self._timer = self._loop.call_later(self._interval, self._poll)

    def stop(self) -> None:
        """Stop polling."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _poll(self) -> None:
        self._timer = None
        acked, now = self._acknowledged(), self._loop.time()
        moved, seconds = max(0, acked - self._acked), now - self._at
        if moved:
            self._moved_at = now
        self._acked, self._at = acked, now
        if self._rate.record(seconds, moved) and now - self._moved_at < self._stall_seconds:
            if self._transport.get_write_buffer_size():
                self._timer = self._loop.call_later(self._interval, self._poll)
            return
        TOO_SLOW.labels("download").inc()
        log.warning("download.too_slow", bytes_left=self._transport.get_write_buffer_size())
        self._transport.abort()

    def _acknowledged(self) -> int:
        """Return the bytes that the client's machine has; without TCP_INFO, what left this process."""
        sock = self._transport.get_extra_info("socket")
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return -self._transport.get_write_buffer_size()
        try:
            (acked,) = _BYTES_ACKED.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size))
        except (OSError, struct.error):
            return -self._transport.get_write_buffer_size()
        return int(acked)
