"""`penstock dlq list`: what waits, and why."""

from typing import Any

from rich.text import Text

from services.cli.adapters import kafka
from services.cli.adapters.letters import unsettled_letters
from services.cli.commands.dlq_settle import gathered
from services.cli.core.letters import Choice, Letter, by_cause
from services.cli.core.text import plural
from services.cli.settings import load
from services.cli.terminal import Json, console, emit, say, table
from shared.text import visible

KEY_WIDTH = 60


async def list_letters(
    *,
    code: str = "",
    service: str = "",
    reason_contains: str = "",
    each: bool = False,
    json: Json = False,
) -> int:
    """List the dead letters that wait, grouped by cause.

    What was replayed or discarded is not shown.

    For example:
        penstock dlq list
        penstock dlq list --each --service hasher
        penstock dlq list --json | jq '.causes[].example'

    Parameters
    ----------
    code:
        Only letters with this code.
    service:
        Only letters of this service.
    reason_contains:
        Only letters whose reason has this text.
    each:
        One line per letter instead of one per cause.

    """
    settings = load()
    choice = Choice(code=code, service=service, reason=reason_contains)
    async with kafka.open_reader(settings) as reader:
        letters = await gathered(unsettled_letters(settings, reader, choice, bodies=False))
    causes = by_cause(letters)
    if json:
        emit(
            {"count": len(letters), "causes": causes}
            | ({"letters": [one.document() for one in letters]} if each else {})
        )
    elif not letters:
        say("no dead letters", style="green")
    elif each:
        _show_each(letters)
    else:
        _show_causes(causes)
    return 0


def _show_causes(causes: list[dict[str, Any]]) -> None:
    for cause in causes:
        head = Text.assemble(
            (f"{cause['count']:>6,}  ", "bold red"), (visible(f"{cause['service']}  {cause['code']}"), "bold")
        )
        console().print(head)
        say(f"        {cause['reason']}")
        say(f"        newest {cause['newest'][:19]}Z  {cause['example']}", style="dim")
    total = sum(cause["count"] for cause in causes)
    say(
        f"{plural(total, 'letter')}; penstock dlq show, replay or discard take a letter's name or --code",
        style="dim",
    )


def _show_each(letters: list[Letter]) -> None:
    made = table("letter", "code", "tries", "key")
    for letter in letters:
        key = visible((letter.key or b"").decode("utf-8", "backslashreplace"), KEY_WIDTH)
        made.add_row(visible(str(letter.place)), visible(letter.told("code")), str(letter.attempts), key)
    console().print(made)
