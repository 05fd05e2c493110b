"""A stack of native processes beside the shared one, for tests that need its servers set up otherwise."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.native import dotenv, services
from deploy.native.install import CHECKOUT, Installer
from deploy.native.postgres_home import delete_data
from deploy.native.stack import Stack
from shared.environment import resolve
from tests.conftest import moved


@contextmanager
def state_folder() -> Iterator[Path]:
    """Give an empty state folder, gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-own-"))
    try:
        yield folder
    finally:
        delete_data(folder)


def env_of(folder: Path, **settings: str) -> dict[str, str]:
    """Return variables with ports and secrets of its own, and `settings` (PENSTOCK_ left out)."""
    own = {f"PENSTOCK_{name.upper()}": value for name, value in settings.items()}
    return dotenv.fresh(CHECKOUT, {**moved(folder), **own}, services.secrets())


@contextmanager
def native(env: dict[str, str]) -> Iterator[Stack]:
    """Give a stack of which nothing runs yet, and nothing runs after the block."""
    stack = Stack.native(env, Installer(Path(env["PENSTOCK_STATE_DIR"]), print).install())
    try:
        yield stack
    finally:
        stack.stop_all()


def with_users(env: dict[str, str], **changes: str) -> dict[str, str]:
    """Return the variables of the same stack with users in its Kafka."""
    return resolve({**env, "PENSTOCK_KAFKA_AUTH": "scram", **changes})
