"""What replay and discard have in common: which letters, how fast, and what to tell."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.cli.adapters import kafka
from services.cli.adapters.letters import unsettled_letters
from services.cli.core.letters import Choice, Letter, Place, by_cause
from services.cli.core.text import plural
from services.cli.core.usage import WrongUsage
from services.cli.settings import CliSettings
from services.cli.terminal import counting, emit, note, say
from shared.errors import Rejected

MAX_HELD_BYTES = 256 << 20
"""Of the dead letters that one command holds in memory."""


@dataclass(slots=True)
class Settled:
    """What became of the chosen letters: done (in a dry run: meant), held back, or refused and why."""

    word: str
    dry: bool = False
    held: Sequence[Letter] = ()
    done: list[Letter] = field(default_factory=list)
    refused: dict[Letter, str] = field(default_factory=dict)


def named(letter: str) -> Place | None:
    """Return the place of the letter that was named, if one was."""
    return Place.parse(letter) if letter else None


async def waiting(settings: CliSettings, choice: Choice, *, bodies: bool = True) -> list[Letter]:
    """Return the letters of `choice` that wait, as many as memory has room for.

    Raises:
        WrongUsage: nothing was chosen; nobody settles everything by accident.

    """
    if choice.is_empty:
        ways = "name one (topic/partition/offset) or give --code, --service, --reason-contains or --all"
        raise WrongUsage(f"dlq: no letter was chosen; {ways}")
    async with kafka.open_reader(settings) as reader:
        return await gathered(unsettled_letters(settings, reader, choice, bodies=bodies))


async def gathered(letters: AsyncIterator[Letter], most: int = MAX_HELD_BYTES) -> list[Letter]:
    """Return letters until their keys, headers and bodies have `most` bytes, and say when more wait."""
    found: list[Letter] = []
    held = 0
    async for letter in letters:
        held += letter.size
        if found and held > most:
            note(
                f"penstock: dlq: these are the first {len(found):,} letters: run it again for the rest", style="yellow"
            )
            break
        found.append(letter)
    return found


async def in_order(
    producer: Any,
    letters: Sequence[Letter],
    act: Callable[[Any, Letter], Awaitable[None]],
    settled: Settled,
    rate: float,
) -> None:
    """Act on one letter after the other, at most `rate` a second; a letter that refuses is noted."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number, letter in enumerate(counting(letters, "letters")):
        if rate > 0:
            await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
        try:
            await act(producer, letter)
        except Rejected as refusal:
            settled.refused[letter] = str(refusal)
        else:
            settled.done.append(letter)


def report(settled: Settled, choice: Choice, *, json: bool) -> int:
    """Tell what was done; exit code 1 when the named letter does not wait, was held back, or any refused."""
    if json:
        emit(_document(settled))
    else:
        _show(settled)
    missing = choice.place is not None and not (settled.done or settled.held or settled.refused)
    if missing:
        note(f"penstock: dlq: {choice.place} does not wait; see penstock dlq list --each", style="red")
    return 1 if missing or settled.refused or (settled.held and not settled.done) else 0


def _document(settled: Settled) -> dict[str, Any]:
    return {
        settled.word: [str(letter.place) for letter in settled.done],
        "held": [str(letter.place) for letter in settled.held],
        "refused": {str(letter.place): reason for letter, reason in settled.refused.items()},
        "dry_run": settled.dry,
    }


def _show(settled: Settled) -> None:
    for cause in by_cause(settled.done):
        say(f"{cause['count']:>6,}  {cause['service']}  {cause['code']}: {cause['reason']}")
    word = f"would be {settled.word}" if settled.dry else settled.word
    say(f"{plural(len(settled.done), 'letter')} {word}", style="bold")
    if settled.held:
        most = max(letter.attempts for letter in settled.held)
        say(
            f"{plural(len(settled.held), 'letter')} held back: dead up to {most} times; --force sends them",
            style="yellow",
        )
    for reason in settled.refused.values():
        note(f"penstock: dlq: {reason}", style="red")
