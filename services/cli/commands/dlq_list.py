"""`penstock dlq list`: unresolved dead letters and their causes."""

from typing import Any

from rich.text import Text

from services.cli.adapters import kafka
from services.cli.adapters.dead_letters import unresolved_dead_letters
from services.cli.commands.dlq_resolve import take_within_memory
from services.cli.core.dead_letters import DeadLetter, Selection, group_by_cause
from services.cli.core.text import plural
from services.cli.settings import load
from services.cli.terminal import Json, console, print_json, say, table
from shared.text import visible

KEY_WIDTH = 60


async def list_dead_letters(
    *,
    code: str = "",
    service: str = "",
    reason_contains: str = "",
    each: bool = False,
    json: Json = False,
) -> int:
    """List unresolved dead letters, grouped by cause.

    Replayed and discarded dead letters are resolved and not shown.

    For example:
        penstock dlq list
        penstock dlq list --each --service hasher
        penstock dlq list --json | jq '.causes[].example'

    Parameters
    ----------
    code:
        Only dead letters with this code.
    service:
        Only dead letters of this service.
    reason_contains:
        Only dead letters whose reason contains this text.
    each:
        Print one line per dead letter instead of one per cause.

    """
    settings = load()
    selection = Selection(code=code, service=service, reason=reason_contains)
    async with kafka.open_reader(settings) as reader:
        dead_letters = await take_within_memory(unresolved_dead_letters(settings, reader, selection, bodies=False))
    causes = group_by_cause(dead_letters)
    if json:
        print_json({"count": len(dead_letters), "causes": causes} | (_each(dead_letters) if each else {}))
    elif not dead_letters:
        say("no dead letters", style="green")
    elif each:
        _show_each(dead_letters)
    else:
        _show_causes(causes)
    return 0


def _each(dead_letters: list[DeadLetter]) -> dict[str, Any]:
    """Return the JSON field of `--each`; `letters` is its former name."""
    documents = [one.document() for one in dead_letters]
    return {"dead_letters": documents, "letters": documents}


def _show_causes(causes: list[dict[str, Any]]) -> None:
    for cause in causes:
        head = Text.assemble(
            (f"{cause['count']:>6,}  ", "bold red"), (visible(f"{cause['service']}  {cause['code']}"), "bold")
        )
        console().print(head)
        say(f"        {cause['reason']}")
        say(f"        newest {cause['newest'][:19]}Z  {cause['example']}", style="dim")
    total = sum(cause["count"] for cause in causes)
    say(f"{plural(total, 'dead letter')}. Next: penstock dlq show ID, penstock dlq replay --code CODE", style="dim")


def _show_each(dead_letters: list[DeadLetter]) -> None:
    rows = table("id", "code", "attempts", "key")
    for one in dead_letters:
        key = visible((one.key or b"").decode("utf-8", "backslashreplace"), KEY_WIDTH)
        rows.add_row(visible(str(one.position)), visible(one.header("code")), str(one.attempts), key)
    console().print(rows)
