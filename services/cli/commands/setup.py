"""`penstock setup`: what must exist before anything works."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from services.cli.adapters import database, kafka, s3
from services.cli.adapters.set_up import set_up
from services.cli.adapters.trouble import reaching
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, emit, note, say
from shared.errors import Outage

PAUSE_SECONDS = 0.3
NOTICE_SECONDS = 2.0

Ping = Callable[[CliSettings], Awaitable[None]]
SERVERS: tuple[Ping, ...] = (kafka.ping, s3.ping, database.ping)


async def setup(*, timeout: float = 60, json: Json = False) -> int:  # noqa: ASYNC109 - a flag of the command
    """Make topics, Kafka and S3 users, buckets, notification rules, database roles and tables.

    Waits for the servers first; what is right already is left alone.

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
    with reaching("set-up"):
        changed = await set_up(settings)
    if json:
        emit({"changed": changed})
        return 0
    for line in changed:
        say(line)
    if not changed:
        say("nothing to change", style="dim")
    return 0


async def _wait_for(ping: Ping, settings: CliSettings, seconds: float) -> None:
    """Ask until the server answers; its last excuse is the error."""
    started = time.monotonic()
    told = False
    while True:
        try:
            return await ping(settings)
        except Outage as outage:
            waited = time.monotonic() - started
            if waited >= seconds:
                raise
            if waited >= NOTICE_SECONDS and not told:
                note(f"waiting: {outage}")
                told = True
        await asyncio.sleep(PAUSE_SECONDS)
