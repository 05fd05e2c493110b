"""The stack with Docker: `python -m deploy.compose up|down|status|logs|install|clean`, as without, and `pgadmin`."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from deploy.native import dotenv, services, web
from deploy.native.install import CHECKOUT
from deploy.native.supervisor import say, urls
from shared.environment import has_kafka_users
from shared.errors import PenstockError

FILE: Final = "docker-compose.yml"
KAFKA_USERS: Final = "deploy/compose.kafka-users.yml"
"""Added where Kafka has users."""

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "up": ("up", "--build", "--detach", "--wait"),
    # what a profile started is part of the stack too
    "down": ("--profile", "*", "down"),
    "status": ("ps", "--all"),
    "logs": ("logs", "--tail", "40"),
    "install": ("build",),
    "clean": ("--profile", "*", "down", "--volumes", "--remove-orphans"),
    "pgadmin": ("--profile", "tools", "up", "--detach", "--wait", "pgadmin"),
}


def files(env: Mapping[str, str]) -> list[str]:
    """Return the options that name the compose files; none where docker compose's own choice is right."""
    return ["-f", FILE, "-f", KAFKA_USERS] if has_kafka_users(env) else []


def main() -> int:
    """Run one command and return docker's exit code; ports and secrets come from `.env` and the shell."""
    word, *more = sys.argv[1:] or ["up"]
    if word not in COMMANDS:
        say(f"{word}: one of {', '.join(COMMANDS)} was expected")
        return 2
    env = dotenv.ensure(CHECKOUT, os.environ, services.secrets())
    try:
        command = ["docker", "compose", *files(env), *COMMANDS[word], *more]
    except PenstockError as error:
        say(str(error))
        return 1
    try:
        code = subprocess.call(command, cwd=CHECKOUT, env={**os.environ, **env})
    except FileNotFoundError:
        say("there is no program docker: install Docker Engine and its compose plugin")
        return 1
    if word == "up" and code == 0:
        for name, url in urls(env).items():
            say(f"  {name:<9}{url}")
        say(f"  {'web':<9}{web.entrance(env)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
