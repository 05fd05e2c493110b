"""Kafka with users: the lines in its settings, and its JAAS file with the operator's password.

Services and tools log in by SCRAM, which never sends a password. The broker needs a login before any SCRAM password is
set, so it uses PLAIN on its own connections; so does the stack when it sets the operator's SCRAM password.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.environment import PREFIX, has_kafka_users

Env = Mapping[str, str]

OPEN: Final = """\
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
"""

WITH_USERS: Final = """\
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENTS://{host}:{port}
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
inter.broker.listener.name=CLIENTS
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{operator}
"""

LOGINS: Final = """\
clients.KafkaServer {{
  org.apache.kafka.common.security.plain.PlainLoginModule required
    username="{operator}" password="{password}" user_{operator}="{password}";
  org.apache.kafka.common.security.scram.ScramLoginModule required;
}};
controller.KafkaServer {{
  org.apache.kafka.common.security.plain.PlainLoginModule required
    username="{operator}" password="{password}" user_{operator}="{password}";
}};
"""
"""A JAAS file: https://kafka.apache.org/documentation/#security_sasl"""

MINIO_MECHANISMS: Final = {"PLAIN": "plain", "SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


def listeners(env: Env, host: str) -> str:
    """Return the lines of `server.properties` about listeners and logins."""
    lines = WITH_USERS if has_kafka_users(env) else OPEN
    return lines.format(
        host=host,
        port=env[f"{PREFIX}KAFKA_PORT"],
        controller=env[f"{PREFIX}KAFKA_CONTROLLER_PORT"],
        operator=env.get(f"{PREFIX}KAFKA_USER"),
    )


def write_logins(env: Env, path: Path) -> None:
    """Write the broker's logins, readable by its owner only; remove the file if Kafka has no users."""
    path.unlink(missing_ok=True)
    if has_kafka_users(env):
        password = env[f"{PREFIX}KAFKA_PASSWORD"].replace("\\", "\\\\").replace('"', '\\"')
        text = LOGINS.format(operator=env[f"{PREFIX}KAFKA_USER"], password=password)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(text)


def minio_env(env: Env, lane: str) -> dict[str, str]:
    """Return the variables by which MinIO logs in for one of its notification lanes."""
    if not has_kafka_users(env):
        return {}
    mechanism = env.get(f"{PREFIX}KAFKA_MECHANISM", "SCRAM-SHA-512")
    return {
        f"MINIO_NOTIFY_KAFKA_SASL_{lane}": "on",
        f"MINIO_NOTIFY_KAFKA_SASL_MECHANISM_{lane}": MINIO_MECHANISMS[mechanism],
        f"MINIO_NOTIFY_KAFKA_SASL_USERNAME_{lane}": "penstock-minio",
        f"MINIO_NOTIFY_KAFKA_SASL_PASSWORD_{lane}": env[f"{PREFIX}KAFKA_PASSWORD_MINIO"],
    }
