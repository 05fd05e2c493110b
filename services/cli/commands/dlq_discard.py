"""`penstock dlq discard`: resolve dead letters without a replay."""

from services.cli.adapters import kafka
from services.cli.adapters.dead_letters import discard
from services.cli.commands.dlq_resolve import DeadLetterId, Outcome, act_on_each, report, select, selection_of
from services.cli.settings import load
from services.cli.terminal import Json


async def discard_dead_letters(  # noqa: PLR0913 - flags of the command
    dead_letter_id: DeadLetterId = "",
    *,
    code: str = "",
    service: str = "",
    reason_contains: str = "",
    all: bool = False,  # noqa: A002 - a flag of the command
    dry_run: bool = False,
    rate: float = 1000,
    json: Json = False,
) -> int:
    """Mark dead letters as resolved without replaying them.

    They can be read on their topic until its retention is over.

    For example:
        penstock dlq discard minio.live.ingest.dlq/0/3
        penstock dlq discard --code FOREIGN_BUCKET
        penstock dlq discard --all --dry-run

    Parameters
    ----------
    dead_letter_id:
        One dead letter: topic/partition/offset.
    code:
        All dead letters with this code.
    service:
        All dead letters of this service.
    reason_contains:
        All dead letters whose reason contains this text.
    all:
        All dead letters.
    dry_run:
        Print what would be discarded, and discard nothing.
    rate:
        Maximum number of dead letters per second (1000).

    """
    settings = load()
    selection = selection_of(dead_letter_id, code=code, service=service, reason=reason_contains, everything=all)
    dead_letters = await select(settings, selection, bodies=False)
    outcome = Outcome("discarded", dry_run=dry_run)
    if dead_letters and not dry_run:
        async with kafka.open_producer(settings) as producer:
            await act_on_each(producer, dead_letters, discard, outcome, rate)
    else:
        outcome.done.extend(dead_letters)
    return report(outcome, selection, json=json)
