"""Webhooks over HTTP: to public addresses only, and to the very addresses that were checked."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from itertools import zip_longest
from ssl import SSLContext
from typing import Any, Final
from weakref import WeakKeyDictionary

import httpx

from services.ingress.core.targets import PORTS, is_public, is_web_port
from services.ingress.core.webhook_signing import delivery_body, delivery_headers, derive_secret, former_headers
from services.ingress.core.webhooks import requested_delay
from services.ingress.settings import IngressSettings
from shared.errors import Rejected, one_line

SECONDS: Final = 10.0
"""For one delivery, with all that belongs to it."""
LEAST_SECONDS: Final = 0.1
"""To connect to one of many addresses."""
MAX_URL: Final = 2000
TAKEN: Final = 2
"""First digit of a success status."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one delivery: `error` is None on success."""

    status: int | None
    seconds: float
    error: str | None = None
    retry_after: float | None = None
    """Seconds from Retry-After of a busy receiver (429, 503); not counted as a failure."""

    @property
    def gone(self) -> bool:
        """Return whether the receiver answered 410 and wants no further delivery."""
        return self.status == HTTPStatus.GONE


class Sender:
    """Sign and send deliveries."""

    def __init__(self, settings: IngressSettings) -> None:
        self._key = settings.key_bytes
        self._allow_private = settings.webhook_allow_private
        self._reached: WeakKeyDictionary[httpx.AsyncClient, str] = WeakKeyDictionary()
        """The address that took the connection of a client: its next delivery begins there."""

    def secret(self, webhook_id: str) -> str:
        """Return what the deliveries of a webhook are signed with.

        Raises Rejected: NO_SECRET_KEY.
        """
        if not self._key:
            raise Rejected("NO_SECRET_KEY", "webhooks are signed with PENSTOCK_SECRET_KEY: set it, and start again")
        return derive_secret(self._key, webhook_id)

    async def check(self, url: str) -> None:
        """Refuse an address that no delivery may go to.

        Raises Rejected: TARGET_NOT_ALLOWED, TARGET_UNKNOWN.
        """
        await self._addresses(parsed(url))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Yield an HTTP client for the deliveries of one webhook; proxy settings of the environment are ignored."""
        async with httpx.AsyncClient(
            verify=_trusted(), timeout=SECONDS, follow_redirects=False, trust_env=False
        ) as client:
            yield client

    async def send(self, client: httpx.AsyncClient, webhook_id: str, url: str, payload: Mapping[str, Any]) -> Outcome:
        """Deliver one fact; every error becomes part of the outcome."""
        began, status, error, wait = time.monotonic(), None, None, None
        try:
            async with asyncio.timeout(SECONDS):
                status, retry_after = await self._post(client, webhook_id, parsed(url), payload)
            error = None if status // 100 == TAKEN else f"it answered {status}"
            wait = requested_delay(status, retry_after, datetime.now(UTC))
        except TimeoutError:
            error = f"no answer within {SECONDS:g} s"
        except Exception as failure:  # noqa: BLE001 - one failing webhook must not block others
            error = one_line(failure)
        return Outcome(status, round(time.monotonic() - began, 3), error, wait.total_seconds() if wait else None)

    async def _post(
        self, client: httpx.AsyncClient, webhook_id: str, url: httpx.URL, payload: Mapping[str, Any]
    ) -> tuple[int, str]:
        """Send a fact to the first address that can be reached; return status and `Retry-After` of the answer."""
        addresses, ends = await self._addresses(url), time.monotonic() + SECONDS
        reached = self._reached.get(client)
        if reached is not None and reached in addresses:
            addresses = [reached, *(one for one in addresses if one != reached)]
        body = delivery_body(payload)
        secret, now = self.secret(webhook_id), int(time.time())
        headers = delivery_headers(payload, body, secret, now) | former_headers(webhook_id, body, secret, now)
        headers["host"] = url.netloc.decode("ascii")
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            # an unresponsive address must leave time for the others and for the answer
            share = max((ends - time.monotonic()) / (left + 1), LEAST_SECONDS) if left > 1 else SECONDS
            request = client.build_request(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers=headers,
                timeout=httpx.Timeout(SECONDS, connect=share),
                extensions={"sni_hostname": url.host},
            )
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as failure:
                if left == 1:
                    raise _unreachable(url, len(addresses), failure) from failure
                continue
            self._reached[client] = address
            await answer.aclose()  # the body is not read
            return answer.status_code, answer.headers.get("retry-after", "")
        raise AssertionError  # unreachable: the last address returns or raises

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """Return the addresses to connect to, IPv4 and IPv6 alternating; every address of the name must be allowed."""
        port = url.port or PORTS[url.scheme]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Rejected("TARGET_UNKNOWN", f"the name {url.host} has no address: check its spelling") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private and not all(is_public(one) for one in addresses):
            reason = f"{url.host} leads into this machine or its network: a webhook goes to a public address"
            raise Rejected("TARGET_NOT_ALLOWED", reason)
        return in_turn(addresses)


def in_turn(addresses: Sequence[str]) -> list[str]:
    """Order addresses so that families alternate, beginning with that of the first (RFC 8305, section 4)."""
    first = [one for one in addresses if (":" in one) == (":" in addresses[0])]
    other = [one for one in addresses if one not in first]
    pairs = zip_longest(first, other)
    return [one for pair in pairs for one in pair if one is not None]


def _unreachable(url: httpx.URL, addresses: int, failure: Exception) -> Exception:
    if addresses == 1:
        return failure
    return OSError(f"none of the {addresses} addresses of {url.host} can be reached: {one_line(failure)}")


def parsed(text: str) -> httpx.URL:
    """Return an address that is one of the web.

    Raises Rejected: TARGET_NOT_ALLOWED.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise Rejected("TARGET_NOT_ALLOWED", "the address cannot be read: write https://host/path") from None
    if url.scheme not in PORTS or not url.host or len(text) > MAX_URL:
        raise Rejected("TARGET_NOT_ALLOWED", "webhook URL must use http or https: write https://host/path")
    if url.port is not None and not is_web_port(url.port):
        reason = f"the address has port {url.port}: use 80, 443, or one from 1024 on that no other service is known by"
        raise Rejected("TARGET_NOT_ALLOWED", reason)
    if url.userinfo:
        raise Rejected("TARGET_NOT_ALLOWED", "the address holds a user or a password: deliveries are signed instead")
    return url


@cache
def _trusted() -> SSLContext:
    """Return the certificate authorities of the machine; cached, because loading them takes longer than a delivery."""
    return httpx.create_ssl_context()
