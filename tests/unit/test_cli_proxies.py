"""Requests without TLS bypass proxies, which could read the token."""

import asyncio
import ssl

import pytest

from services.cli.adapters.http import IngressClient
from shared.errors import Outage


async def test_token_without_tls_is_not_sent_to_a_proxy(monkeypatch, unused_tcp_port):
    received = []

    async def listen(reader, writer):
        received.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as proxy:
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        async with IngressClient(
            f"http://127.0.0.1:{unused_tcp_port}", "a-token", ssl.create_default_context()
        ) as ingress:
            with pytest.raises(Outage):
                await ingress.tokens()
    assert received == []
