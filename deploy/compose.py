"""The stack with Docker: `python -m deploy.compose up|down|status|logs|install|clean`, as without."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from deploy.native import dotenv, services, web
from deploy.native.install import CHECKOUT
from deploy.native.supervisor import say, urls

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "up": ("up", "--build", "--detach", "--wait"),
    "down": ("down",),
    "status": ("ps", "--all"),
    "logs": ("logs", "--tail", "40"),
    "install": ("build",),
    "clean": ("down", "--volumes", "--remove-orphans"),
}


def main() -> int:
    """Run one command and return docker's exit code; ports and secrets come from `.env` and the shell."""
    word, *more = sys.argv[1:] or ["up"]
    if word not in COMMANDS:
        say(f"{word}: one of {', '.join(COMMANDS)} was expected")
        return 2
    env = dotenv.ensure(CHECKOUT, os.environ, services.found())
    command = ["docker", "compose", *COMMANDS[word], *more]
    code = subprocess.call(command, cwd=CHECKOUT, env={**os.environ, **env})
    if word == "up" and code == 0:
        for name, url in urls(env).items():
            say(f"  {name:<9}{url}")
        say(f"  {'web':<9}{web.entrance(env)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
