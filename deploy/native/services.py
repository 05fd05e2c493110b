"""Penstock's own processes as programs: which there are, and what each of them may know."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from deploy.native import ready
from deploy.native.install import CHECKOUT
from deploy.native.process import Program
from deploy.native.servers import base_env
from shared.environment import KAFKA_PASSWORD, PREFIX, ROLE_PASSWORD, USER_SECRET, has_kafka_users, with_login
from shared.provision.rights import RIGHTS, role_name
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
"""What no service is given by itself, beside the other services' secrets."""

_SECRETS: Final = (USER_SECRET, ROLE_PASSWORD, KAFKA_PASSWORD)

ENTRUSTED: Final[Mapping[str, tuple[str, ...]]] = {"ingress": ("TOKEN", "SECRET_KEY", "S3_SECRET_KEY_PARTS")}
"""Services that need one of these all the same."""


def found(root: Path = CHECKOUT) -> list[str]:
    """Return every service that can be started, by name: folders with a `__main__`, but for the console."""
    return sorted(path.parent.name for path in root.glob("services/*/__main__.py") if path.parent.name != "cli")


def wanted(env: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return each service with its number, as many of each as PENSTOCK_<SERVICE>_PROCESSES says (1)."""
    return [
        (name, number)
        for name in found()
        for number in range(1, int(env.get(f"{PREFIX}{name.upper()}_PROCESSES", "1")) + 1)
    ]


def process_name(service: str, number: int) -> str:
    """Return `hasher` for the first, `hasher-2` for the second."""
    return service if number == 1 else f"{service}-{number}"


def service(env: Mapping[str, str], name: str, number: int, health_port: int) -> Program:
    """Return one process of a service, with its own S3 user and nobody else's secrets."""
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
    entrusted = {PREFIX + word for word in ENTRUSTED.get(name, ())}
    hidden = {PREFIX + word for word in OPERATOR_ONLY} | {key for key in env if key.startswith(_SECRETS)}
    known = {key: value for key, value in env.items() if key not in hidden - entrusted}
    return {
        **known,
        **_kafka_login(env, name),
        f"{PREFIX}S3_ACCESS_KEY": f"penstock-{name.replace('_', '-')}",
        f"{PREFIX}S3_SECRET_KEY": env.get(USER_SECRET + name.upper(), ""),
        f"{PREFIX}POSTGRES_DSN": _own_dsn(env, name),
        f"{PREFIX}HEALTH_PORT": str(health_port),
        f"{PREFIX}STATE_DIR": str(Path(env[f"{PREFIX}STATE_DIR"]) / "services" / name),
    }


def _own_dsn(env: Mapping[str, str], name: str) -> str:
    """Return the database's address for a service: with its own role, or the operator's where that has no password."""
    dsn, password = env[f"{PREFIX}POSTGRES_DSN"], env.get(ROLE_PASSWORD + name.upper())
    return with_login(dsn, role_name(name), password) if password and name in RIGHTS else dsn


def _kafka_login(env: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the Kafka user of one service, where Kafka has users."""
    own = (user_name(name), env.get(KAFKA_PASSWORD + name.upper(), "")) if has_kafka_users(env) else ("", "")
    return dict(zip((f"{PREFIX}KAFKA_USER", f"{PREFIX}KAFKA_PASSWORD"), own, strict=True))


def setup(env: Mapping[str, str]) -> Program:
    """Return the one-shot that makes topics, buckets, rules and S3 users; it alone is given every secret."""
    return Program(
        name="setup",
        command=(sys.executable, "-m", "services.cli", "setup"),
        env={**base_env(), "PYTHONPATH": str(CHECKOUT), **env},
        patience=120,
    )
