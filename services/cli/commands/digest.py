"""`penstock digest`: what is known of one object."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from services.cli.adapters.http import Ingress
from services.cli.adapters.objects import look
from services.cli.adapters.views import digest_rows, known_etag
from services.cli.core.address import Address, parse_object
from services.cli.core.digests import PENDING, Verdict, judge, judge_told
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, emit, note
from services.cli.verdicts import show_verdict, verdict_document
from shared.errors import Outage

PAUSE_SECONDS = 0.2


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
        The object, as s3://bucket/key.
    wait:
        Seconds to wait while it is pending.
    url:
        Ask the ingress at this address, with PENSTOCK_TOKEN, instead of bucket and database.

    """
    settings = load()
    wanted = parse_object(address)
    async with _asking(settings, wanted, url) as ask:
        verdict = await _settled(ask, wait)
    if json:
        emit(verdict_document(wanted, verdict))
    else:
        show_verdict(wanted, verdict)
    return verdict.code


@asynccontextmanager
async def _asking(settings: CliSettings, address: Address, url: str) -> AsyncIterator[Callable[[], Awaitable[Verdict]]]:
    """Give the question to ask, of the witnesses themselves or of an ingress."""
    if not url:
        yield partial(_judged, settings, address)
        return
    async with Ingress.of(settings, url) as ingress:
        yield partial(_judged_by, ingress, address, is_input=address.bucket in settings.input_buckets)


async def _settled(ask: Callable[[], Awaitable[Verdict]], seconds: float) -> Verdict:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        verdict = await ask()
        if verdict.code != PENDING or loop.time() >= deadline:
            return verdict
        await asyncio.sleep(PAUSE_SECONDS)


async def _judged(settings: CliSettings, address: Address) -> Verdict:
    """Ask all three witnesses; without the bucket, the other two must do."""
    try:
        found = await look(settings, address)
        stored = found.etag if found else ""
    except Outage as outage:
        note(f"{outage}; judged without it")
        stored = None
    known = await known_etag(settings, address) if stored is None else None
    row = (await digest_rows(settings, [address])).get(address)
    is_input = address.bucket in settings.input_buckets
    return judge(row, known=known, stored=stored or None, is_input=is_input)


async def _judged_by(ingress: Ingress, address: Address, *, is_input: bool) -> Verdict:
    return judge_told(await ingress.timeline(address, limit=1), is_input=is_input)
