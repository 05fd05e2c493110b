"""`penstock dlq replay`: publish dead letters to their original topics again."""

from services.cli.adapters import kafka
from services.cli.adapters.dead_letters import replay
from services.cli.commands.dlq_resolve import DeadLetterId, Outcome, act_on_each, report, select, selection_of
from services.cli.core.dead_letters import split_by_attempts
from services.cli.settings import load
from services.cli.terminal import Json


async def replay_dead_letters(  # noqa: PLR0913 - flags of the command
    dead_letter_id: DeadLetterId = "",
    *,
    code: str = "",
    service: str = "",
    reason_contains: str = "",
    all: bool = False,  # noqa: A002 - a flag of the command
    dry_run: bool = False,
    rate: float = 100,
    max_attempts: int = 3,
    force: bool = False,
    json: Json = False,
) -> int:
    """Publish dead letters to their original topics again, only for the service that failed.

    A record that fails again becomes a new dead letter with one more
    attempt; from --max-attempts on it is held back, so that replays never
    loop.

    For example:
        penstock dlq replay objects.changed.v1.hasher.dlq/0/17
        penstock dlq replay --code NO_SUCH_OBJECT --dry-run
        penstock dlq replay --all --rate 10

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
        Print what would be replayed, and replay nothing.
    rate:
        Maximum number of dead letters per second (100).
    max_attempts:
        Hold back dead letters that failed this many times (3).
    force:
        Replay those too.

    """
    settings = load()
    selection = selection_of(dead_letter_id, code=code, service=service, reason=reason_contains, everything=all)
    to_replay, held = split_by_attempts(await select(settings, selection), max_attempts, force=force)
    outcome = Outcome("replayed", held=held, dry_run=dry_run)
    if to_replay and not dry_run:
        async with kafka.open_producer(settings) as producer:
            await act_on_each(producer, to_replay, replay, outcome, rate)
    else:
        outcome.done.extend(to_replay)
    return report(outcome, selection, json=json)
