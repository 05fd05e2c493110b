"""Wait for the digests of stored objects."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from services.cli.adapters.views import digest_rows
from services.cli.core.address import Address
from services.cli.core.digests import PENDING, DigestState, state_of
from services.cli.settings import CliSettings

FetchRows = Callable[[Sequence[Address]], Awaitable[Mapping[Address, Mapping[str, Any]]]]

FIRST_PAUSE = 0.05
LAST_PAUSE = 1.0
PAGE = 1000


async def wait_for_digests(
    settings: CliSettings, etags: Mapping[Address, str], seconds: float, *, fetch_rows: FetchRows | None = None
) -> dict[Address, DigestState]:
    """Return the states of objects with these `etags` once none is pending, or after `seconds`.

    Rows are read by `fetch_rows`, by default from the database.
    """
    fetch_rows = fetch_rows or partial(digest_rows, settings)
    deadline = time.monotonic() + seconds
    pending = list(etags)
    states: dict[Address, DigestState] = {}
    pause = FIRST_PAUSE
    while True:
        for start in range(0, len(pending), PAGE):
            page = pending[start : start + PAGE]
            rows = await fetch_rows(page)
            states |= {one: _state(settings, one, rows.get(one), etags[one]) for one in page}
        pending = [one for one in pending if states[one].exit_code == PENDING]
        if not pending or time.monotonic() >= deadline:
            return {one: states[one] for one in etags}
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LAST_PAUSE)


def _state(settings: CliSettings, address: Address, row: Mapping[str, object] | None, etag: str) -> DigestState:
    return state_of(row, known_etag=etag, stored_etag=etag, is_input=address.bucket in settings.input_buckets)
