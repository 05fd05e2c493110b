"""What the console sends without TLS passes no proxy: it would read the token."""

import asyncio
import ssl

import pytest

from services.cli.adapters.http import Ingress
from shared.errors import Outage


async def test_a_token_without_tls_passes_no_proxy(monkeypatch, unused_tcp_port):
    heard = []

    async def listen(reader, writer):
        heard.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as proxy:
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        async with Ingress(f"http://127.0.0.1:{unused_tcp_port}", "a-token", ssl.create_default_context()) as ingress:
            with pytest.raises(Outage):
                await ingress.tokens()
    assert heard == []
