"""`penstock setup`: create what the services require."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from services.cli.adapters import database, kafka, s3
from services.cli.adapters.errors import translate_errors
from services.cli.adapters.set_up import set_up
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, note, print_json, say
from shared.errors import Outage

RETRY_SECONDS = 0.3
NOTICE_SECONDS = 2.0

Ping = Callable[[CliSettings], Awaitable[None]]
SERVERS: tuple[Ping, ...] = (kafka.ping, s3.ping, database.ping)


async def setup(*, timeout: float = 60, json: Json = False) -> int:  # noqa: ASYNC109 - a flag of the command
    """Create topics, Kafka and S3 users, buckets, notification rules, database roles and tables.

    Waits for the servers first, and changes only what differs.

    For example:
        penstock setup
        penstock setup --timeout 300 --json

    Parameters
    ----------
    timeout:
        Seconds to wait for Kafka, the object store and Postgres (60).

    """
    settings = load()
    await asyncio.gather(*(_wait_for(ping, settings, timeout) for ping in SERVERS))
    with translate_errors("set-up"):
        changed = await set_up(settings)
    if json:
        print_json({"changed": changed})
        return 0
    for line in changed:
        say(line)
    if not changed:
        say("nothing to change", style="dim")
    return 0


async def _wait_for(ping: Ping, settings: CliSettings, seconds: float) -> None:
    """Ping until the server answers; after `seconds`, raise the last Outage."""
    started = time.monotonic()
    noticed = False
    while True:
        try:
            return await ping(settings)
        except Outage as outage:
            waited = time.monotonic() - started
            if waited >= seconds:
                raise
            if waited >= NOTICE_SECONDS and not noticed:
                note(f"waiting: {outage}")
                noticed = True
        await asyncio.sleep(RETRY_SECONDS)
