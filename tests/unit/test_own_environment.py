"""What the host has set for other programs, AWS_*, `~/.aws` and proxies, changes nothing of what our S3 clients do."""

import asyncio

import pytest

from services.cli.adapters.s3 import open_s3
from services.cli.settings import CliSettings
from shared.errors import Rejected
from shared.storage.admin_client import open_client

ELSEWHERE = "http://127.0.0.1:9"
HOST = {
    "AWS_PROFILE": "missing",
    "AWS_DEFAULT_PROFILE": "missing",
    "AWS_ACCESS_KEY_ID": "theirs",
    "AWS_SECRET_ACCESS_KEY": "theirs",
    "AWS_SESSION_TOKEN": "theirs",
    "AWS_REGION": "eu-west-9",
    "AWS_DEFAULT_REGION": "eu-west-9",
    "AWS_ENDPOINT_URL": ELSEWHERE,
    "AWS_ENDPOINT_URL_S3": ELSEWHERE,
    "AWS_CA_BUNDLE": "/no/such/file.pem",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_MAX_ATTEMPTS": "no number",
    "AWS_RETRY_MODE": "strange",
    "AWS_STS_REGIONAL_ENDPOINTS": "strange",
    "HTTP_PROXY": ELSEWHERE,
    "http_proxy": ELSEWHERE,
    "ALL_PROXY": ELSEWHERE,
    "NO_PROXY": "",
}
CONFIGS = {"another profile": "[profile x]\nregion = eu-west-9\n", "broken": "no = section\n[default\n"}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("client", [open_client, open_s3])
async def test_the_hosts_variables_and_files_change_no_request(monkeypatch, tmp_path, client, config):
    for name in ("config", "credentials"):
        (tmp_path / name).write_text(config)
    files = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
    for name, value in {**HOST, **{name: str(tmp_path / file) for name, file in files.items()}}.items():
        monkeypatch.setenv(name, value)
    heard = []

    async def answer(reader, writer):
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as store:
        port = store.sockets[0].getsockname()[1]
        settings = CliSettings(
            s3_endpoint=f"http://127.0.0.1:{port}", s3_access_key="ours", s3_secret_key="hush", s3_region="here-1"
        )
        async with client(settings) as s3:
            await s3.head_bucket(Bucket="inbox")
    (request,) = heard
    assert request.startswith("HEAD /inbox HTTP/1.1")
    assert "Credential=ours/" in request
    assert "/here-1/s3/" in request
    assert "theirs" not in request


@pytest.mark.parametrize("given", [{}, {"s3_access_key": "ours"}, {"s3_secret_key": "hush"}])
def test_without_an_s3_user_the_console_says_which_variables_are_missing(given):
    with pytest.raises(Rejected, match="set PENSTOCK_S3_ACCESS_KEY and PENSTOCK_S3_SECRET_KEY"):
        open_s3(CliSettings(**given))
