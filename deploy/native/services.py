"""Penstock's own processes as programs: the services of the catalogue, and the variables that each is given."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from deploy.native import ready
from deploy.native.install import CHECKOUT
from deploy.native.process import Program
from deploy.native.servers import base_env
from services import catalogue
from shared.environment import KAFKA_PASSWORD, PREFIX, ROLE_PASSWORD, USER_SECRET, has_kafka_users, with_login
from shared.provision.rights import role_name
from shared.provision.users import user_name

OPERATOR_ONLY: Final = (
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "TOKEN",
    "SECRET_KEY",
    "POSTGRES_PASSWORD",
    "READER_PASSWORD",
    "KAFKA_PASSWORD",
)
"""Secrets that a service gets only if its manifest names them; secrets of other services it never gets."""

_SECRETS: Final = (USER_SECRET, ROLE_PASSWORD, KAFKA_PASSWORD)


def secrets() -> tuple[str, ...]:
    """Return the variables with the secrets of all users and roles of services."""
    return catalogue.manifests().secrets


def processes(env: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return each service with the numbers of its processes, as many as PENSTOCK_<SERVICE>_PROCESSES says (1)."""
    return [
        (name, number)
        for name in catalogue.names()
        for number in range(1, int(env.get(f"{PREFIX}{name.upper()}_PROCESSES", "1")) + 1)
    ]


def process_name(service: str, number: int) -> str:
    """Return `hasher` for the first, `hasher-2` for the second."""
    return service if number == 1 else f"{service}-{number}"


def service(env: Mapping[str, str], name: str, number: int, health_port: int) -> Program:
    """Return one process of a service, with its own users and no secret of another service."""
    return Program(
        name=process_name(name, number),
        command=(sys.executable, "-m", f"services.{name}"),
        env={
            **base_env(),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            **service_env(env, name, health_port),
        },
        ports={f"{PREFIX}HEALTH_PORT_BASE": health_port},
        grace=float(env.get(f"{PREFIX}SHUTDOWN_GRACE", "15")) + 5,
        check=partial(ready.web, health_port, "/health/ready"),
    )


def service_env(env: Mapping[str, str], name: str, health_port: int) -> dict[str, str]:
    """Return the PENSTOCK_* variables of one service."""
    entrusted = {PREFIX + word for word in catalogue.manifests()[name].entrusted}
    hidden = {PREFIX + word for word in OPERATOR_ONLY} | {key for key in env if key.startswith(_SECRETS)}
    known = {key: value for key, value in env.items() if key not in hidden - entrusted}
    return {
        **known,
        **_kafka_login(env, name),
        f"{PREFIX}S3_ACCESS_KEY": user_name(name),
        f"{PREFIX}S3_SECRET_KEY": env.get(USER_SECRET + name.upper(), ""),
        f"{PREFIX}POSTGRES_DSN": _own_dsn(env, name),
        f"{PREFIX}HEALTH_PORT": str(health_port),
        f"{PREFIX}STATE_DIR": str(Path(env[f"{PREFIX}STATE_DIR"]) / "services" / name),
    }


def _own_dsn(env: Mapping[str, str], name: str) -> str:
    """Return the database's address for a service: with its own role, or the operator's if that has no password."""
    dsn, password = env[f"{PREFIX}POSTGRES_DSN"], env.get(ROLE_PASSWORD + name.upper())
    return with_login(dsn, role_name(name), password) if password else dsn


def _kafka_login(env: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the Kafka user of one service; empty if Kafka has no users."""
    own = (user_name(name), env.get(KAFKA_PASSWORD + name.upper(), "")) if has_kafka_users(env) else ("", "")
    return dict(zip((f"{PREFIX}KAFKA_USER", f"{PREFIX}KAFKA_PASSWORD"), own, strict=True))


def setup(env: Mapping[str, str]) -> Program:
    """Return set-up, which creates topics, buckets, rules and users and ends; only it gets every secret."""
    return Program(
        name="setup",
        command=(sys.executable, "-m", "services.cli", "setup"),
        env={**base_env(), "PYTHONPATH": str(CHECKOUT), **env},
        timeout_seconds=120,
    )
