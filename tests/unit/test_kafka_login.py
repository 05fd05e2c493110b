"""Clients connect to Kafka by the settings, and a refused login is one line with a fix."""

import hashlib
import os
import socket
import ssl
import subprocess
from io import BytesIO

import pytest
from aiokafka import errors as kafka_errors
from faststream.kafka.security import parse_security
from pydantic import ValidationError

from deploy.native import kafka_login, ports, ready
from deploy.native.process import NotReady
from shared import kafka, tls
from shared.errors import Kind, PenstockError, Rejected, kind_of
from shared.provision.kafka_requests import AlterCredentials, AlterCredentialsV0, Credential
from shared.settings import Settings

LOGIN = {"kafka_user": "penstock-x", "kafka_password": "of-x"}


def settings(**given: object) -> Settings:
    return Settings.of({}, **given)


@pytest.mark.parametrize(
    ("given", "protocol", "mechanism"),
    [
        ({}, "PLAINTEXT", None),
        ({"kafka_tls": "on"}, "SSL", None),
        (LOGIN, "SASL_PLAINTEXT", "SCRAM-SHA-512"),
        ({**LOGIN, "kafka_tls": "on", "kafka_mechanism": "SCRAM-SHA-256"}, "SASL_SSL", "SCRAM-SHA-256"),
        ({**LOGIN, "kafka_mechanism": "PLAIN"}, "SASL_PLAINTEXT", "PLAIN"),
        ({"kafka_password": "unused"}, "PLAINTEXT", None),
    ],
)
def test_client_options_follow_from_the_settings(given, protocol, mechanism):
    own = settings(**given)
    options = kafka.client_options(own)
    assert (options["security_protocol"], options.get("sasl_mechanism")) == (protocol, mechanism)
    assert (options["ssl_context"] is not None) == protocol.endswith("SSL")
    theirs = {"security_protocol": "PLAINTEXT", "ssl_context": None, **parse_security(kafka.security(own))}
    assert {name: value for name, value in options.items() if name != "bootstrap_servers"} == theirs


def test_tls_context_verifies_certificates_and_host_names():
    context = tls.context(settings())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_unreadable_ca_file_is_rejected(tmp_path, text):
    path = tmp_path / "ca.pem"
    if text:
        path.write_text(text)
    with pytest.raises(Rejected, match=f"PENSTOCK_TLS_CA={path} cannot be read"):
        tls.context(settings(tls_ca=str(path)))


def test_empty_tls_ca_uses_the_system_authorities():
    assert settings(tls_ca="").tls_ca is None


def test_kafka_user_without_password_is_rejected():
    with pytest.raises(ValidationError, match="penstock-x has no password: set PENSTOCK_KAFKA_PASSWORD"):
        settings(kafka_user="penstock-x")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (kafka_errors.SaslAuthenticationFailed("of-x"), "wrong user name or password: check PENSTOCK_KAFKA_USER"),
        (kafka_errors.UnsupportedSaslMechanismError("x"), "it does not support SCRAM-SHA-512"),
        (kafka_errors.IllegalSaslStateError("x"), "unset PENSTOCK_KAFKA_USER"),
        (kafka_errors.KafkaConnectionError("closed"), "PENSTOCK_KAFKA_TLS=on"),
        (ConnectionResetError(104, "reset"), "PENSTOCK_KAFKA_TLS=on"),
    ],
)
def test_refused_login_is_an_outage_with_a_fix_in_one_line(error, told):
    outage = kafka._to_outage(settings(**LOGIN), error)
    assert isinstance(outage, kafka.KafkaRefused)
    assert kind_of(outage) is Kind.OUTAGE
    assert "refuses user penstock-x" in str(outage)
    assert told in str(outage)
    assert "of-x" not in str(outage)


def test_wrapped_tls_failures_are_described():
    inner = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] x")
    inner.verify_code, inner.verify_message = 20, "unable to get local issuer certificate"
    wrapped = RuntimeError("pool", OSError(inner))
    wrapped.__cause__ = ValueError("loop")
    wrapped.__cause__.__cause__ = wrapped
    assert "not trusted (unable to get local issuer certificate): set PENSTOCK_TLS_CA" in tls.describe_failure(wrapped)
    assert tls.describe_failure(ExceptionGroup("both", [OSError("x"), inner]))
    assert tls.describe_failure(ConnectionRefusedError(111, "refused")) == ""


def test_password_is_sent_to_kafka_only_salted():
    one = Credential.of("penstock-x", "of-x", "SCRAM-SHA-512")
    assert one.salted == hashlib.pbkdf2_hmac("sha512", b"of-x", one.salt, 8192)
    assert one.salt != Credential.of("penstock-x", "of-x", "SCRAM-SHA-512").salt
    sent = AlterCredentials([one], [("penstock-old", "SCRAM-SHA-256")]).build(AlterCredentialsV0).encode()
    assert b"of-x" not in sent
    read = AlterCredentialsV0.decode(BytesIO(sent))
    assert read.deletions == [("penstock-old", 1, {})]
    assert read.upsertions == [("penstock-x", 2, 8192, one.salt, one.salted, {})]


def env(**more: str) -> dict[str, str]:
    ports = {"PENSTOCK_KAFKA_PORT": "9092", "PENSTOCK_KAFKA_CONTROLLER_PORT": "9093", "PENSTOCK_KAFKA_USER": "penstock"}
    return {**ports, "PENSTOCK_KAFKA_PASSWORD": 'quo"te\\', **more}


def test_the_broker_s_logins_are_readable_by_its_owner_alone_and_go_with_the_users(tmp_path):
    path = tmp_path / "logins.conf"
    path.write_text("open to all")
    path.chmod(0o644)
    kafka_login.write_logins(env(PENSTOCK_KAFKA_AUTH="scram"), path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert r'password="quo\"te\\"' in path.read_text()
    kafka_login.write_logins(env(PENSTOCK_KAFKA_AUTH="none"), path)
    assert not path.exists()


def test_without_users_kafka_listens_as_before():
    assert "SASL" not in kafka_login.listeners(env(), "127.0.0.1")
    assert "authorizer" not in kafka_login.listeners(env(), "127.0.0.1")
    assert kafka_login.minio_env(env(), "LIVE") == {}


def test_another_word_for_users_is_refused():
    with pytest.raises(PenstockError, match="PENSTOCK_KAFKA_AUTH=ssl: set it to none or scram"):
        kafka_login.listeners(env(PENSTOCK_KAFKA_AUTH="ssl"), "127.0.0.1")


def test_a_port_belongs_to_whoever_listens_on_it():
    with socket.create_server((ports.HOST, 0)) as listener:
        port = listener.getsockname()[1]
        assert ports.is_ours(port)
    assert not ports.is_ours(port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program of another user")
def test_a_port_that_another_user_took_is_not_ours():
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    command = ["setpriv", "--reuid=nobody", "--clear-groups", "/usr/bin/python3", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as squatter:
        assert squatter.stdout
        assert squatter.stdin
        assert not ports.is_ours(int(squatter.stdout.readline()))
        squatter.stdin.close()


async def test_the_operator_s_password_is_not_sent_to_a_port_of_another_user(monkeypatch):
    sent = []
    monkeypatch.setattr(ports, "is_ours", lambda _: False)
    monkeypatch.setattr(ready, "set_password", lambda *told: sent.append(told))
    with pytest.raises(NotReady, match="another user"):
        await ready._set_operator_password(settings(kafka_user="penstock", kafka_password="x"), 9092)
    assert sent == []
