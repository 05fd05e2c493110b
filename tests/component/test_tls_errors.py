"""Each client of an object store says in one line what is wrong with its TLS."""

import asyncio
import ssl

import pytest
import trustme
from pydantic import SecretStr

from services.catalogue import manifests
from services.cli.adapters import s3
from services.cli.settings import CliSettings
from shared.errors import Outage
from shared.provision import ensure_buckets, ensure_users
from shared.storage import ObjectRef, open_store


async def head(settings):
    async with open_store(settings) as store:
        await store.head(ObjectRef("inbox", "x"))


CLIENTS = {
    "store": head,
    "admin client": lambda settings: ensure_buckets(settings, ["inbox"]),
    "MinIO's administration": lambda settings: ensure_users(
        settings, manifests().s3_users, {"hasher": SecretStr("some-secret")}
    ),
    "console": s3.ping,
}
NOT_TRUSTED = r"certificate is not trusted \(unable to get local issuer certificate\): set PENSTOCK_TLS_CA"
OTHER_HOST = r"certificate is for another host \(.*localhost.*\): use a name that the certificate has"
NO_TLS = r"no TLS connection \(wrong version number\): use the server's TLS port"


@pytest.fixture
async def server(tmp_path):
    """A server with a certificate for 127.0.0.1, and one without; neither answers like an object store."""

    async def answer(_, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "right.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "wrong.pem")
    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as over_tls,
        await asyncio.start_server(answer, "127.0.0.1", 0) as plain,
    ):
        yield {name: one.sockets[0].getsockname()[1] for name, one in (("tls", over_tls), ("plain", plain))}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "case",
    [
        ("127.0.0.1", "tls", "wrong", NOT_TRUSTED),
        ("localhost", "tls", "right", OTHER_HOST),
        ("127.0.0.1", "plain", "right", NO_TLS),
    ],
    ids=["another authority", "another host", "TLS to plain text"],
)
async def test_a_client_says_what_is_wrong_with_its_tls(server, tmp_path, client, case):
    host, port, authority, message = case
    settings = CliSettings.of(
        {},
        s3_endpoint=f"https://{host}:{server[port]}",
        s3_access_key="penstock",
        s3_secret_key="some-secret",
        tls_ca=tmp_path / f"{authority}.pem",
        state_dir=tmp_path,
    )
    with pytest.raises(Outage, match=message) as caught:
        await CLIENTS[client](settings)
    assert "\n" not in str(caught.value)
