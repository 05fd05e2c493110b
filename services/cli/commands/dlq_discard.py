"""`penstock dlq discard`: dead letters that nobody needs."""

from typing import Any

from services.cli.adapters import kafka
from services.cli.adapters.letters import settle
from services.cli.commands.dlq_settle import Settled, in_order, named, report, waiting
from services.cli.core.letters import Choice, Letter
from services.cli.settings import load
from services.cli.terminal import Json


async def discard_letters(  # noqa: PLR0913 - flags of the command
    letter: str = "",
    *,
    code: str = "",
    service: str = "",
    reason_contains: str = "",
    all: bool = False,  # noqa: A002 - a flag of the command
    dry_run: bool = False,
    rate: float = 1000,
    json: Json = False,
) -> int:
    """Settle dead letters without sending them anywhere.

    They stay readable on their topic until its retention is over.

    For example:
        penstock dlq discard minio.live.ingest.dlq/0/3
        penstock dlq discard --code FOREIGN_BUCKET
        penstock dlq discard --all --dry-run

    Parameters
    ----------
    letter:
        One letter by its name, topic/partition/offset.
    code:
        All letters with this code.
    service:
        All letters of this service.
    reason_contains:
        All letters whose reason has this text.
    all:
        Every letter.
    dry_run:
        Say what would be discarded; settle nothing.
    rate:
        Letters a second at most (1000).

    """
    settings = load()
    choice = Choice(named(letter), code=code, service=service, reason=reason_contains, everything=all)
    letters = await waiting(settings, choice, bodies=False)
    settled = Settled("discarded", dry=dry_run)
    if letters and not dry_run:
        async with kafka.open_producer(settings) as producer:
            await in_order(producer, letters, _discard, settled, rate)
    else:
        settled.done.extend(letters)
    return report(settled, choice, json=json)


async def _discard(producer: Any, letter: Letter) -> None:
    await settle(producer, letter, "discarded")
