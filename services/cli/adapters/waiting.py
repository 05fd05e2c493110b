"""Wait until objects that were just stored have their digests."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from services.cli.adapters.views import digest_rows
from services.cli.core.address import Address
from services.cli.core.digests import Verdict, judge
from services.cli.settings import CliSettings

Ask = Callable[[Sequence[Address]], Awaitable[Mapping[Address, Mapping[str, Any]]]]

FIRST_PAUSE = 0.05
LAST_PAUSE = 1.0
PAGE = 1000


async def wait_for_digests(
    settings: CliSettings, etags: Mapping[Address, str], seconds: float, *, ask: Ask | None = None
) -> dict[Address, Verdict]:
    """Return each object's verdict once none is pending or after `seconds`; other ETags do not count.

    Rows come from the database, or from whoever `ask` asks.
    """
    ask = ask or partial(digest_rows, settings)
    deadline = time.monotonic() + seconds
    waiting = list(etags)
    verdicts: dict[Address, Verdict] = {}
    pause = FIRST_PAUSE
    while True:
        for start in range(0, len(waiting), PAGE):
            page = waiting[start : start + PAGE]
            rows = await ask(page)
            verdicts |= {one: _judge(settings, one, rows.get(one), etags[one]) for one in page}
        waiting = [one for one in waiting if verdicts[one].code == 3]  # noqa: PLR2004 - pending
        if not waiting or time.monotonic() >= deadline:
            return {one: verdicts[one] for one in etags}
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LAST_PAUSE)


def _judge(settings: CliSettings, address: Address, row: Mapping[str, object] | None, etag: str) -> Verdict:
    return judge(row, known=etag, stored=etag, is_input=address.bucket in settings.input_buckets)
