"""`penstock digest`: the digests of one object."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

from services.cli.adapters.http import IngressClient
from services.cli.adapters.objects import find_object
from services.cli.adapters.views import digest_rows, known_etag
from services.cli.core.address import Address, parse_object
from services.cli.core.digests import PENDING, DigestState, state_from_timeline, state_of
from services.cli.digest_output import digests_document, show_digests
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, note, print_json
from shared.errors import Outage

POLL_SECONDS = 0.2

FetchState: TypeAlias = Callable[[], Awaitable[DigestState]]


async def digest(address: str, *, wait: float = 0, url: str = "", json: Json = False) -> int:
    """Show the digests of one object.

    Exit codes: 0 done, 1 failed, 3 pending, 4 unknown.

    For example:
        penstock digest s3://inbox/reports/report.pdf
        penstock digest s3://inbox/disk.img --wait 600
        penstock digest s3://inbox/a.txt --url http://127.0.0.1:8080
        penstock digest s3://inbox/a.txt --json | jq -r .digests.sha256

    Parameters
    ----------
    address:
        The object: s3://bucket/key.
    wait:
        Seconds to wait while the digests are pending.
    url:
        Query the ingress at this URL, with PENSTOCK_TOKEN, instead of the bucket and the database.

    """
    settings = load()
    target = parse_object(address)
    async with _open_source(settings, target, url) as fetch:
        state = await _wait_while_pending(fetch, wait)
    if json:
        print_json(digests_document(target, state))
    else:
        show_digests(target, state)
    return state.exit_code


@asynccontextmanager
async def _open_source(settings: CliSettings, address: Address, url: str) -> AsyncIterator[FetchState]:
    """Yield the function that fetches the state, from the bucket and the database or from the ingress at `url`."""
    if not url:
        yield partial(_fetch, settings, address)
        return
    async with IngressClient.from_settings(settings, url) as ingress:
        yield partial(_fetch_from_ingress, ingress, address, is_input=address.bucket in settings.input_buckets)


async def _wait_while_pending(fetch: FetchState, seconds: float) -> DigestState:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        state = await fetch()
        if state.exit_code != PENDING or loop.time() >= deadline:
            return state
        await asyncio.sleep(POLL_SECONDS)


async def _fetch(settings: CliSettings, address: Address) -> DigestState:
    """Query bucket and hasher; while the object store is down, ingest's record instead of the bucket."""
    try:
        found = await find_object(settings, address)
        stored = found.etag if found else ""
    except Outage as outage:
        note(f"{outage}; continuing without it")
        stored = None
    known = await known_etag(settings, address) if stored is None else None
    row = (await digest_rows(settings, [address])).get(address)
    is_input = address.bucket in settings.input_buckets
    return state_of(row, known_etag=known, stored_etag=stored or None, is_input=is_input)


async def _fetch_from_ingress(ingress: IngressClient, address: Address, *, is_input: bool) -> DigestState:
    return state_from_timeline(await ingress.timeline(address, limit=1), is_input=is_input)
