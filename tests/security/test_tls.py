"""Kafka, the object store and Postgres over TLS with an authority of our own: all works, nothing else is trusted."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from deploy.native import ready, servers
from deploy.native.install import Installer
from deploy.native.process import Process, Program
from deploy.native.stack import Stack
from services.catalogue import manifests
from shared.errors import Outage, PenstockError
from shared.kafka import KafkaRefused, check_access
from shared.postgres import open_pool
from shared.provision import ensure_buckets, ensure_users
from shared.settings import Settings
from shared.storage import ObjectRef, open_store
from tests.support import ingress, own_stack
from tests.support.console import Console, faults
from tests.support.system import SystemUnderTest

pytestmark = pytest.mark.timeout(300)

KAFKA_TLS = """\
listener.security.protocol.map=CLIENTS:SASL_SSL,CONTROLLER:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={pem}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A state folder with the servers' certificate, which is for 127.0.0.1 alone, and another authority's."""
    with own_stack.state_folder() as folder:
        authority, certs = trustme.CA(), folder / "certs"
        (certs / "CAs").mkdir(parents=True)
        server = authority.issue_cert("127.0.0.1")
        key = load_pem_private_key(server.private_key_pem.bytes(), None)
        (certs / "private.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (certs / "public.crt").write_bytes(b"".join(part.bytes() for part in server.cert_chain_pems))
        (certs / "kafka.pem").write_bytes((certs / "private.key").read_bytes() + (certs / "public.crt").read_bytes())
        authority.cert_pem.write_to_path(certs / "CAs" / "ca.crt")
        trustme.CA().cert_pem.write_to_path(folder / "other.pem")
        yield folder


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    env = over_tls(own_stack.env_of(folder, kafka_auth="scram", kafka_tls="on", tls_ca=authority_in(folder)))
    programs = servers.programs(env, Installer(folder, print).install())
    certs = folder / "certs"
    changed = (
        with_kafka_certificate(programs["kafka"], folder / "kafka" / "server.properties", certs / "kafka.pem"),
        with_minio_certificate(programs["minio"], certs, int(env["PENSTOCK_S3_PORT"])),
        with_postgres_certificate(programs["postgres"], certs),
    )
    stack = Stack(env, [Process(program, folder) for program in changed])
    try:
        stack.start_servers()
        stack.setup()
        yield stack
    finally:
        stack.stop_all()


def authority_in(folder: Path) -> str:
    return str(folder / "certs" / "CAs" / "ca.crt")


def over_tls(env: dict[str, str]) -> dict[str, str]:
    """Return variables with the addresses that the guide gives for TLS."""
    login, authority = env["PENSTOCK_POSTGRES_DSN"], env["PENSTOCK_TLS_CA"]
    return {
        **env,
        "PENSTOCK_S3_ENDPOINT": env["PENSTOCK_S3_ENDPOINT"].replace("http://", "https://"),
        "PENSTOCK_POSTGRES_DSN": f"{login}?sslmode=verify-full&sslrootcert={authority}",
    }


def with_kafka_certificate(program: Program, settings: Path, pem: Path) -> Program:
    def prepare() -> None:
        program.prepare()
        with settings.open("a") as file:
            file.write(KAFKA_TLS.format(pem=pem, authority=pem.parent / "CAs" / "ca.crt"))

    return replace(program, prepare=prepare)


def with_minio_certificate(program: Program, certs: Path, port: int) -> Program:
    kafka_tls = {f"MINIO_NOTIFY_KAFKA_TLS_{lane}": "on" for lane in ("LIVE", "SAFE")}
    command = (*program.command, "--certs-dir", str(certs))
    return replace(program, command=command, env={**program.env, **kafka_tls}, check=lambda: ready.listening(port))


def with_postgres_certificate(program: Program, certs: Path) -> Program:
    home = Path(program.command[program.command.index("-D") + 1]).parent

    def prepare() -> None:
        program.prepare()
        for name in ("private.key", "public.crt"):
            shutil.copy(certs / name, home)
            (home / name).chmod(0o600)
            if program.user:
                shutil.chown(home / name, program.user, program.user)

    options = ("ssl=on", f"ssl_cert_file={home}/public.crt", f"ssl_key_file={home}/private.key")
    command = (*program.command, *(part for option in options for part in ("-c", option)))
    return replace(program, command=command, prepare=prepare)


def test_an_object_becomes_digests_over_tls_alone(system: SystemUnderTest) -> None:
    ingress.serve(system)
    system.put("a")
    row = system.hashed("a")
    assert row["digests"]
    encrypted = system.database.rows(
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'penstock%'"
    )
    assert [one["ssl"] for one in encrypted] == [True]
    with ingress.client(system) as client:
        assert client.get(f"/objects/inbox/{system.prefix}a").is_success
        assert client.get("/stats/workers").is_success


async def test_the_doctor_finds_all_well(stack: Stack) -> None:
    assert await faults(stack) == []


def test_the_console_works_over_tls(system: SystemUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(os.urandom(1000))
    console = Console(system.stack.env, system.stack.state_dir)
    console.run("put", str(file), f"s3://inbox/{system.prefix}", "--wait")


WRONG_AUTHORITY = r"its certificate is not trusted \(.*\): set PENSTOCK_TLS_CA to the PEM file of its authority"
WRONG_HOST = r"its certificate is for another host \(.*\): use a name that the certificate has"
NO_TLS = r"no TLS connection \(.*\): use the server's TLS port"


def changed(stack: Stack, **changes: object) -> Settings:
    return Settings.of(stack.env, **changes)


def other(stack: Stack) -> str:
    return str(stack.state_dir / "other.pem")


def elsewhere(address: str) -> str:
    """Return the same address by a name that the certificate does not have."""
    return address.replace("127.0.0.1", "localhost")


Change = Callable[[Stack], Settings]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stack: changed(stack, tls_ca=other(stack)), WRONG_AUTHORITY),
        (lambda stack: changed(stack, tls_ca=None), WRONG_AUTHORITY),
        (lambda stack: changed(stack, kafka_bootstrap=elsewhere(stack.env["PENSTOCK_KAFKA_BOOTSTRAP"])), WRONG_HOST),
        (
            lambda stack: changed(stack, kafka_tls=False),
            "closes the connection without an answer.*PENSTOCK_KAFKA_TLS=on",
        ),
        (
            lambda stack: changed(stack, kafka_bootstrap=f"127.0.0.1:{stack.env['PENSTOCK_KAFKA_CONTROLLER_PORT']}"),
            "closes the connection without an answer.*PENSTOCK_KAFKA_TLS=off",
        ),
    ],
    ids=["another authority", "the system's authorities", "another host", "plain text to TLS", "TLS to plain text"],
)
async def test_kafka_refuses_in_one_line(stack: Stack, change: Change, message: str) -> None:
    with pytest.raises(KafkaRefused, match=message) as refused:
        await check_access(change(stack))
    assert "\n" not in str(refused.value)
    assert stack.env["PENSTOCK_KAFKA_PASSWORD"] not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stack: changed(stack, tls_ca=other(stack)), WRONG_AUTHORITY),
        (lambda stack: changed(stack, s3_endpoint=elsewhere(stack.env["PENSTOCK_S3_ENDPOINT"])), WRONG_HOST),
    ],
    ids=["another authority", "another host"],
)
async def test_each_client_of_the_object_store_refuses_in_one_line(stack: Stack, change: Change, message: str) -> None:
    settings = change(stack)
    async with open_store(settings.model_copy(update={"state_dir": stack.state_dir / "test"})) as store:
        with pytest.raises(Outage, match=message):
            await store.head(ObjectRef("inbox", "x"))
    with pytest.raises(Outage, match=message):
        await ensure_buckets(settings, ["inbox"])
    with pytest.raises(Outage, match=message):
        await ensure_users(settings, manifests().s3_users, {"hasher": SecretStr("some-secret")})


async def test_tls_to_an_object_store_of_plain_text_says_so(stack: Stack) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = changed(stack, s3_endpoint=f"https://127.0.0.1:{port}")
        with pytest.raises(Outage, match=NO_TLS):
            await ensure_buckets(settings, ["inbox"])


async def test_plain_text_to_the_object_store_is_refused(stack: Stack) -> None:
    settings = changed(stack, s3_endpoint=stack.env["PENSTOCK_S3_ENDPOINT"].replace("https", "http"))
    with pytest.raises(PenstockError):
        await ensure_buckets(settings, ["inbox"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stack, dsn: dsn.replace(authority_in(stack.state_dir), other(stack)), "not trusted"),
        (lambda _, dsn: elsewhere(dsn), WRONG_HOST),
    ],
    ids=["another authority", "another host"],
)
async def test_postgres_is_refused_in_one_line(stack: Stack, change: Callable[[Stack, str], str], message: str) -> None:
    dsn = change(stack, stack.env["PENSTOCK_POSTGRES_DSN"])
    async with open_pool(SecretStr(dsn), service="test", wait=False) as pool:
        with pytest.raises(Outage, match=message) as refused:
            await pool.execute("SELECT 1")
    assert stack.env["PENSTOCK_POSTGRES_PASSWORD"] not in str(refused.value)


def test_the_console_says_what_is_wrong_with_a_certificate(stack: Stack) -> None:
    console = Console({**stack.env, "PENSTOCK_TLS_CA": other(stack)}, stack.state_dir)
    _, message = console.start("dlq", "list").communicate(timeout=60)
    assert "its certificate is not trusted" in message
    assert "Traceback" not in message
