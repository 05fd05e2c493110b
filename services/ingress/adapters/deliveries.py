"""Webhooks over HTTP: to public addresses only, and to the very address that was checked."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, Final

import httpx

from services.ingress.core.targets import PORTS, is_public, is_web_port
from services.ingress.core.webhooks import body_of, headers_of, secret_of
from services.ingress.settings import IngressSettings
from shared.errors import Rejected, one_line

SECONDS: Final = 10.0
"""For one delivery, with all that belongs to it."""
MAX_URL: Final = 2000
TAKEN: Final = 2
"""The first digit of a status that says yes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended: `error` is None when it was taken, and `gone` when nobody wants any more."""

    status: int | None
    seconds: float
    error: str | None = None

    @property
    def gone(self) -> bool:
        """Whether the other side wants no further delivery."""
        return self.status == HTTPStatus.GONE


class Sender:
    """Signs deliveries and sends them."""

    def __init__(self, settings: IngressSettings) -> None:
        self._key = settings.key_bytes
        self._allow_private = settings.webhook_allow_private

    def secret(self, number: str) -> str:
        """Return what the deliveries of a webhook are signed with.

        Raises Rejected: NO_SECRET_KEY.
        """
        if not self._key:
            raise Rejected("NO_SECRET_KEY", "webhooks are signed with PENSTOCK_SECRET_KEY: set it, and start again")
        return secret_of(self._key, number)

    async def check(self, url: str) -> None:
        """Refuse an address that no delivery may go to.

        Raises Rejected: TARGET_NOT_ALLOWED, TARGET_UNKNOWN.
        """
        await self._address(parsed(url))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Give connections for the deliveries of one webhook; what the environment says of proxies does not count."""
        async with httpx.AsyncClient(
            verify=_trusted(), timeout=SECONDS, follow_redirects=False, trust_env=False
        ) as client:
            yield client

    async def send(self, client: httpx.AsyncClient, number: str, url: str, told: Mapping[str, Any]) -> Outcome:
        """Deliver one fact; whatever goes wrong is the outcome."""
        began, status, error = time.monotonic(), None, None
        try:
            async with asyncio.timeout(SECONDS):
                status = await self._post(client, number, parsed(url), told)
            error = None if status // 100 == TAKEN else f"it answered {status}"
        except TimeoutError:
            error = f"no answer within {SECONDS:g} s"
        except Exception as failure:  # noqa: BLE001 - one webhook may hold up no other, nor itself for ever
            error = one_line(failure)
        return Outcome(status, round(time.monotonic() - began, 3), error)

    async def _post(self, client: httpx.AsyncClient, number: str, url: httpx.URL, told: Mapping[str, Any]) -> int:
        address = await self._address(url)
        body = body_of(told)
        headers = headers_of(told, body, self.secret(number), int(time.time()))
        host = url.netloc.decode("ascii")
        request = client.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "host": host},
            extensions={"sni_hostname": url.host},
        )
        answer = await client.send(request, stream=True)
        await answer.aclose()  # what it says beside its status, nobody reads
        return answer.status_code

    async def _address(self, url: httpx.URL) -> str:
        """Return the address to connect to: all that the name stands for must be allowed."""
        port = url.port or PORTS[url.scheme]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Rejected("TARGET_UNKNOWN", f"the name {url.host} has no address: check its spelling") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not self._allow_private and not all(is_public(one) for one in addresses):
            reason = f"{url.host} leads into this machine or its network: a webhook goes to a public address"
            raise Rejected("TARGET_NOT_ALLOWED", reason)
        return addresses[0]


def parsed(text: str) -> httpx.URL:
    """Return an address that is one of the web.

    Raises Rejected: TARGET_NOT_ALLOWED.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise Rejected("TARGET_NOT_ALLOWED", "the address cannot be read: write https://host/path") from None
    if url.scheme not in PORTS or not url.host or len(text) > MAX_URL:
        raise Rejected("TARGET_NOT_ALLOWED", "the address is none of the web: write https://host/path")
    if url.port is not None and not is_web_port(url.port):
        reason = f"the address has port {url.port}: use 80, 443, or one from 1024 on that no other service is known by"
        raise Rejected("TARGET_NOT_ALLOWED", reason)
    if url.userinfo:
        raise Rejected("TARGET_NOT_ALLOWED", "the address holds a user or a password: deliveries are signed instead")
    return url


@cache
def _trusted() -> SSLContext:
    """Return the authorities that the machine trusts; read once, since that takes longer than a delivery."""
    return httpx.create_ssl_context()
