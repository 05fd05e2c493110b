"""The object store's users as set-up makes them with other settings of their services."""

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.native.stack import Stack
from services.catalogue import manifests
from services.cli.settings import load
from shared.provision import ensure_users
from tests.support.topics import run


@contextmanager
def with_switches(stack: Stack, **switches: object) -> Iterator[None]:
    """Give the services' S3 users, for a while, what they need with these settings on."""
    settings = load(stack.env)
    run(ensure_users(settings.model_copy(update=switches), manifests().s3_users, settings.user_secrets))
    try:
        yield
    finally:
        run(ensure_users(settings, manifests().s3_users, settings.user_secrets))
