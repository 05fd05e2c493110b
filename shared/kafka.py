"""How every client reaches Kafka: address, TLS and user from the settings, and what it means to be refused.

aiokafka says why a connection failed only in its log. `check_access` asks again and says it in one line.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

from aiokafka import errors as kafka_errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared import tls
from shared.errors import Outage
from shared.settings import Settings

AUTHORIZATION_ERRORS: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
)
"""The user is known, but an ACL for this topic, group or the cluster is missing."""
MECHANISMS: Final[Mapping[str, type[BaseSecurity]]] = MappingProxyType(
    {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
)
REQUEST_TIMEOUT_MS: Final = 5_000
GRANT_HINT: Final = "run `penstock setup`, or grant the ACL"
OTHER_PROTOCOL: Final = {True: "plain text (PENSTOCK_KAFKA_TLS=off)", False: "TLS (PENSTOCK_KAFKA_TLS=on)"}
LOGIN_HINT: Final = "check PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD, or run `penstock setup`"
_GROUP: Final = 0
"""FindCoordinator's type of a consumer group's coordinator."""
_NETWORK: Final = (OSError, kafka_errors.KafkaError)


class KafkaRefused(Outage):
    """Kafka is there, but does not accept this client; it may once its users or our settings are corrected."""

    def __init__(self, settings: Settings, reason: str, fix: str) -> None:
        user = f"user {settings.kafka_user}" if settings.kafka_user else "a client without a user"
        super().__init__(f"Kafka at {settings.kafka_bootstrap} refuses {user}: {reason}: {fix}")


class KafkaDenied(Outage):
    """The user is known, but lacks a right; it may be granted while we wait."""

    def __init__(self, settings: Settings, what: str) -> None:
        super().__init__(f"Kafka user {settings.kafka_user or 'ANONYMOUS'} lacks an ACL ({what}): {GRANT_HINT}")


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments with which any client of aiokafka connects and logs in."""
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


def security(settings: Settings) -> BaseSecurity | None:
    """Return the same for FastStream's broker; None for plain text without a user."""
    if not settings.kafka_user and not settings.kafka_tls:
        return None
    over: dict[str, Any] = {
        "use_ssl": settings.kafka_tls,
        "ssl_context": tls.context(settings) if settings.kafka_tls else None,
    }
    if not settings.kafka_user:
        return BaseSecurity(**over)
    login: dict[str, Any] = {"username": settings.kafka_user, "password": settings.kafka_password.get_secret_value()}
    return MECHANISMS[settings.kafka_mechanism](**over, **login)


async def check_access(settings: Settings, group: str = "") -> None:
    """Connect, log in, and ask for the brokers and for a group's coordinator, at the first server that answers.

    Raises:
        KafkaRefused: a server answers, and does not accept this client.
        KafkaDenied: the user may not join `group`.
        Outage: no server answers.

    """
    failures: list[Outage] = []
    for host, port, _ in collect_hosts(settings.kafka_bootstrap):
        try:
            return await _greet(settings, host, port, group)
        except _NETWORK as error:
            failures.append(_meaning(settings, error))
    raise next((one for one in failures if isinstance(one, KafkaRefused)), failures[0])


async def _greet(settings: Settings, host: str, port: int, group: str) -> None:
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


def _meaning(settings: Settings, error: BaseException) -> Outage:
    """Say what a failed connection means; nothing of what a client sent is in it."""
    if reason := tls.describe_failure(error):
        return KafkaRefused(settings, *reason.split(": ", 1))
    if isinstance(error, kafka_errors.SaslAuthenticationFailed | kafka_errors.AuthenticationFailedError):
        return KafkaRefused(settings, "wrong user name or password", LOGIN_HINT)
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        return KafkaRefused(settings, f"it does not know {settings.kafka_mechanism}", "set PENSTOCK_KAFKA_MECHANISM")
    if isinstance(error, kafka_errors.IllegalSaslStateError):
        return KafkaRefused(settings, "nobody logs in there", "unset PENSTOCK_KAFKA_USER, or use another port")
    if isinstance(error, kafka_errors.KafkaConnectionError | ConnectionResetError):
        fix = f"it may expect a user (PENSTOCK_KAFKA_USER), or {OTHER_PROTOCOL[settings.kafka_tls]}"
        return KafkaRefused(settings, "it closes the connection without an answer", fix)
    why = str(error) or "no answer in time"
    return Outage(f"Kafka at {settings.kafka_bootstrap} does not answer: {why}")


@asynccontextmanager
async def explain_refusals(settings: Settings) -> AsyncIterator[None]:
    """Raise KafkaRefused in place of aiokafka's bare "unable to bootstrap" where Kafka refuses this client."""
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
