"""What `dlq replay` and `dlq discard` share: selecting dead letters, acting on each, and the report."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeAlias

from cyclopts import Parameter

from services.cli.adapters import kafka
from services.cli.adapters.dead_letters import Action, unresolved_dead_letters
from services.cli.core.dead_letters import DeadLetter, RecordPosition, Selection, group_by_cause
from services.cli.core.text import plural
from services.cli.core.usage import UsageError
from services.cli.settings import CliSettings
from services.cli.terminal import note, print_json, say, track_progress
from shared.errors import Rejected

DeadLetterId: TypeAlias = Annotated[str, Parameter(name=("--id", "--letter"))]
"""A dead letter's topic/partition/offset; `--letter` is the former name of the flag."""
MAX_HELD_BYTES: Final = 256 << 20
"""Maximum memory for the dead letters of one command."""


@dataclass(slots=True)
class Outcome:
    """The selected dead letters by result: done (in a dry run: to do), held back, or rejected with the reason."""

    action: Action
    dry_run: bool = False
    held: Sequence[DeadLetter] = ()
    done: list[DeadLetter] = field(default_factory=list)
    rejected: dict[DeadLetter, str] = field(default_factory=dict)


def selection_of(dead_letter_id: str, **conditions: Any) -> Selection:
    """Return the selection that the flags of a command describe."""
    return Selection(RecordPosition.parse(dead_letter_id) if dead_letter_id else None, **conditions)


async def select(settings: CliSettings, selection: Selection, *, bodies: bool = True) -> list[DeadLetter]:
    """Return the unresolved dead letters of `selection` that fit into memory.

    Raises:
        UsageError: `selection` is empty; this prevents resolving everything by accident.

    """
    if selection.is_empty:
        ways = "give an ID (topic/partition/offset), --code, --service, --reason-contains or --all"
        raise UsageError(f"dlq: no dead letters are selected: {ways}")
    async with kafka.open_reader(settings) as reader:
        return await take_within_memory(unresolved_dead_letters(settings, reader, selection, bodies=bodies))


async def take_within_memory(
    dead_letters: AsyncIterator[DeadLetter], max_bytes: int = MAX_HELD_BYTES
) -> list[DeadLetter]:
    """Return dead letters until they take `max_bytes` of memory; print a note if there are more."""
    taken: list[DeadLetter] = []
    taken_bytes = 0
    async for dead_letter in dead_letters:
        taken_bytes += dead_letter.size
        if taken and taken_bytes > max_bytes:
            note(
                f"penstock: dlq: only the first {len(taken):,} dead letters fit into memory: run it again for the rest",
                style="yellow",
            )
            break
        taken.append(dead_letter)
    return taken


async def act_on_each(
    producer: Any,
    dead_letters: Sequence[DeadLetter],
    act: Callable[[Any, DeadLetter], Awaitable[None]],
    outcome: Outcome,
    rate: float,
) -> None:
    """Call `act` for each dead letter in order, at most `rate` per second; record in `outcome` whether it was done."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number, dead_letter in enumerate(track_progress(dead_letters, "dead letters")):
        if rate > 0:
            await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
        try:
            await act(producer, dead_letter)
        except Rejected as error:
            outcome.rejected[dead_letter] = str(error)
        else:
            outcome.done.append(dead_letter)


def report(outcome: Outcome, selection: Selection, *, json: bool) -> int:
    """Print the outcome; return 1 if the given id is not unresolved, or any was rejected, or all were held back."""
    if json:
        print_json(_document(outcome))
    else:
        _show(outcome)
    missing = selection.position is not None and not (outcome.done or outcome.held or outcome.rejected)
    if missing:
        note(
            f"penstock: dlq: {selection.position} is not an unresolved dead letter: see penstock dlq list --each",
            style="red",
        )
    return 1 if missing or outcome.rejected or (outcome.held and not outcome.done) else 0


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        outcome.action: [str(one.position) for one in outcome.done],
        "held": [str(one.position) for one in outcome.held],
        "refused": {str(one.position): reason for one, reason in outcome.rejected.items()},
        "dry_run": outcome.dry_run,
    }


def _show(outcome: Outcome) -> None:
    for cause in group_by_cause(outcome.done):
        say(f"{cause['count']:>6,}  {cause['service']}  {cause['code']}: {cause['reason']}")
    action = f"would be {outcome.action}" if outcome.dry_run else outcome.action
    say(f"{plural(len(outcome.done), 'dead letter')} {action}", style="bold")
    if outcome.held:
        attempts = max(one.attempts for one in outcome.held)
        say(
            f"{plural(len(outcome.held), 'dead letter')} held back after up to {attempts} attempts: "
            "add --force to replay them",
            style="yellow",
        )
    for reason in outcome.rejected.values():
        note(f"penstock: dlq: {reason}", style="red")
