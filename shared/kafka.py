"""Connect clients to Kafka by the settings (address, TLS, user), and explain refused connections.

aiokafka reports why a connection failed only in its log. `check_access` connects again and reports it in one line.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiokafka import errors as kafka_errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest

from shared import tls
from shared.errors import Outage
from shared.settings import Settings

if TYPE_CHECKING:
    from faststream.security import BaseSecurity

AUTHORIZATION_ERRORS: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
)
"""Kafka knows the user, but an ACL for the topic, the group or the cluster is missing."""
REQUEST_TIMEOUT_MS: Final = 5_000
GRANT_HINT: Final = "run `penstock setup`, or grant the ACL"
_OTHER_PROTOCOL: Final = {True: "plain text (PENSTOCK_KAFKA_TLS=off)", False: "TLS (PENSTOCK_KAFKA_TLS=on)"}
LOGIN_HINT: Final = "check PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD, or run `penstock setup`"
_GROUP: Final = 0
"""FindCoordinator's key type for a consumer group."""
_NETWORK: Final = (OSError, kafka_errors.KafkaError)


class KafkaRefused(Outage):
    """Kafka answers but refuses this client, until an operator corrects its users or our settings."""

    def __init__(self, settings: Settings, reason: str, fix: str) -> None:
        user = f"user {settings.kafka_user}" if settings.kafka_user else "a client without a user"
        super().__init__(f"Kafka at {settings.kafka_bootstrap} refuses {user}: {reason}: {fix}")


class KafkaDenied(Outage):
    """Kafka knows the user, but an ACL is missing; an operator may grant it while we retry."""

    def __init__(self, settings: Settings, what: str) -> None:
        super().__init__(f"Kafka user {settings.kafka_user or 'ANONYMOUS'} lacks an ACL ({what}): {GRANT_HINT}")


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments with which any aiokafka client connects and logs in."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap,
        "security_protocol": f"{'SASL_' if settings.kafka_user else ''}{'SSL' if settings.kafka_tls else 'PLAINTEXT'}",
        "ssl_context": tls.context(settings) if settings.kafka_tls else None,
        **(_login(settings) if settings.kafka_user else {}),
    }


def _login(settings: Settings) -> dict[str, str]:
    return {
        "sasl_mechanism": settings.kafka_mechanism,
        "sasl_plain_username": settings.kafka_user,
        "sasl_plain_password": settings.kafka_password.get_secret_value(),
    }


def security(settings: Settings) -> "BaseSecurity | None":
    """Return the same options for FastStream's broker; None for plain text without a user."""
    # FastStream takes half a second to import, and the console connects to Kafka without it
    from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512  # noqa: PLC0415

    if not settings.kafka_user and not settings.kafka_tls:
        return None
    transport: dict[str, Any] = {
        "use_ssl": settings.kafka_tls,
        "ssl_context": tls.context(settings) if settings.kafka_tls else None,
    }
    if not settings.kafka_user:
        return BaseSecurity(**transport)
    login: dict[str, Any] = {"username": settings.kafka_user, "password": settings.kafka_password.get_secret_value()}
    mechanisms = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return mechanisms[settings.kafka_mechanism](**transport, **login)


async def check_access(settings: Settings, group: str = "") -> None:
    """Connect to the first server that answers, log in, and request metadata and the coordinator of `group`.

    Raises:
        KafkaRefused: a server answers but refuses this client.
        KafkaDenied: the user may not join `group`.
        Outage: no server answers.

    """
    failures: list[Outage] = []
    for host, port, _ in collect_hosts(settings.kafka_bootstrap):
        try:
            return await _log_in(settings, host, port, group)
        except _NETWORK as error:
            failures.append(_to_outage(settings, error))
    raise next((one for one in failures if isinstance(one, KafkaRefused)), failures[0])


async def _log_in(settings: Settings, host: str, port: int, group: str) -> None:
    options = {name: value for name, value in client_options(settings).items() if name != "bootstrap_servers"}
    conn = await create_conn(host, port, client_id="penstock-start", request_timeout_ms=REQUEST_TIMEOUT_MS, **options)
    try:
        await conn.send(MetadataRequest([]))
        if group:
            answer: Any = await conn.send(FindCoordinatorRequest(group, _GROUP))
            if answer.error_code == kafka_errors.GroupAuthorizationFailedError.errno:
                raise KafkaDenied(settings, f"group {group}")
    finally:
        conn.close()


def _to_outage(settings: Settings, error: BaseException) -> Outage:
    """Explain a failed connection; the text contains nothing that the client sent."""
    if reason := tls.describe_failure(error):
        return KafkaRefused(settings, *reason.split(": ", 1))
    if isinstance(error, kafka_errors.SaslAuthenticationFailed | kafka_errors.AuthenticationFailedError):
        return KafkaRefused(settings, "wrong user name or password", LOGIN_HINT)
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        return KafkaRefused(settings, f"it does not support {settings.kafka_mechanism}", "set PENSTOCK_KAFKA_MECHANISM")
    if isinstance(error, kafka_errors.IllegalSaslStateError):
        return KafkaRefused(settings, "this port accepts no logins", "unset PENSTOCK_KAFKA_USER, or use another port")
    if isinstance(error, kafka_errors.KafkaConnectionError | ConnectionResetError):
        fix = f"it may expect a user (PENSTOCK_KAFKA_USER), or {_OTHER_PROTOCOL[settings.kafka_tls]}"
        return KafkaRefused(settings, "it closes the connection without an answer", fix)
    why = str(error) or "no answer in time"
    return Outage(f"Kafka at {settings.kafka_bootstrap} does not answer: {why}")


@asynccontextmanager
async def explain_refusals(settings: Settings) -> AsyncIterator[None]:
    """Replace aiokafka's "unable to bootstrap" by KafkaRefused if Kafka refuses this client."""
    try:
        yield
    except kafka_errors.KafkaConnectionError as error:
        try:
            await check_access(settings)
        except KafkaRefused as refused:
            raise refused from error
        except Outage:
            pass
        raise
