"""`penstock dlq replay`: dead letters back to where they came from."""

from services.cli.adapters import kafka
from services.cli.adapters.letters import send_back
from services.cli.commands.dlq_settle import Settled, in_order, named, report, waiting
from services.cli.core.letters import Choice, split_by_attempts
from services.cli.settings import load
from services.cli.terminal import Json


async def replay_letters(  # noqa: PLR0913 - flags of the command
    letter: str = "",
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
    """Send dead letters back, once, for the service that failed and no other.

    A record that fails again comes back as a new dead letter that counts one
    more attempt; after --max-attempts it stays, so a replay never loops.

    For example:
        penstock dlq replay objects.changed.v1.hasher.dlq/0/17
        penstock dlq replay --code NO_SUCH_OBJECT --dry-run
        penstock dlq replay --all --rate 10

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
        Say what would be sent; send nothing.
    rate:
        Letters a second at most (100).
    max_attempts:
        Letters that failed so often already are held back (3).
    force:
        Send those too.

    """
    settings = load()
    choice = Choice(named(letter), code=code, service=service, reason=reason_contains, everything=all)
    letters = await waiting(settings, choice)
    send, held = split_by_attempts(letters, max_attempts, force=force)
    settled = Settled("replayed", held=held, dry=dry_run)
    if send and not dry_run:
        async with kafka.open_producer(settings) as producer:
            await in_order(producer, send, send_back, settled, rate)
    else:
        settled.done.extend(send)
    return report(settled, choice, json=json)
