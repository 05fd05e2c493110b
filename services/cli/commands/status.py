"""`penstock status`: processes, consumer lag, queues, dead letters and lost notifications."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from rich.text import Text

from services.cli.adapters import lags, stack, views
from services.cli.core.text import plural
from services.cli.settings import load
from services.cli.terminal import Json, console, note, print_json, say, table
from shared.errors import PenstockError, one_line
from shared.text import visible

STYLES = dict.fromkeys(stack.HEALTHY_STATES, "green") | {"starting": "yellow", "waiting": "yellow"}


async def status(*, json: Json = False) -> int:
    """Show processes, consumer lag, queues, dead letters and lost notifications.

    Sweeps find lost notifications. If a server is down, only its parts are missing:
    the exit code is 1, in JSON the part is null, and `errors` has the reason.

    For example:
        penstock status
        penstock status --json | jq .lag

    Parameters
    ----------
    json:
        Print one JSON document instead of text.

    """
    settings = load()
    parts: dict[str, Awaitable[Any]] = {
        "processes": stack.processes(settings),
        "lag": lags.lag(settings),
        "queues": views.queues(settings),
        "dead_letters": lags.dead_letters(settings),
        "notification_loss": views.notification_loss(settings),
    }
    found = dict(zip(parts, await asyncio.gather(*parts.values(), return_exceptions=True), strict=True))
    errors = {part: one_line(result) for part, result in found.items() if isinstance(result, PenstockError)}
    for result in found.values():
        if isinstance(result, BaseException) and not isinstance(result, PenstockError):
            raise result
    known = {part: None if part in errors else result for part, result in found.items()}
    known["processes"] = known["processes"] or []
    if json:
        print_json(known | {"errors": errors})
    else:
        _show(known, errors)
    return 1 if errors else 0


def _show(known: dict[str, Any], errors: dict[str, str]) -> None:
    for part, (title, show) in SECTIONS.items():
        if known[part] is not None and (known[part] or part not in errors):
            say(title, style="bold")
            show(known[part])
            say("")
    for line in dict.fromkeys(errors.values()):
        parts = ", ".join(part.replace("_", " ") for part, error in errors.items() if error == line)
        note(f"penstock: status: {parts}: {line}", style="red")


def _show_processes(processes: list[dict[str, Any]]) -> None:
    rows = table("name", "state", "pid", "restarts")
    for one in processes:
        state = str(one.get("state"))
        pid, restarts = ("-" if one.get(name) is None else str(one[name]) for name in ("pid", "restarts"))
        rows.add_row(visible(str(one["name"])), Text(state, style=STYLES.get(state, "red")), pid, restarts)
    console().print(rows)


def _show_lag(lag: dict[str, dict[str, int]]) -> None:
    rows = table("group", "topic", "records")
    for group, topics in lag.items():
        for topic, count in topics.items():
            rows.add_row(group, topic, Text(f"{count:,}", style="yellow" if count else "green"))
    console().print(rows)


def _show_queues(queues: dict[str, dict[str, int]]) -> None:
    if not queues:
        say("empty", style="dim")
    for queue, states in queues.items():
        say(f"{queue}  " + "   ".join(f"{state} {count:,}" for state, count in states.items()))


def _show_dead_letters(counts: dict[str, int]) -> None:
    for topic, count in counts.items():
        if count:
            say(f"{count:,}  {topic}", style="red")
    say("Next: penstock dlq list" if any(counts.values()) else "none", style="dim")


def _show_loss(loss: dict[str, Any]) -> None:
    lost = loss["missed"] + loss["vanished"]
    found = f"missed {loss['missed']:,}   vanished {loss['vanished']:,}"
    total = f"in {plural(loss['sweeps'], 'sweep')} over {plural(loss['listed'], 'listed object')}"
    say(f"{found}   {total}", style="yellow" if lost else "green")


SECTIONS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "processes": ("Processes", _show_processes),
    "lag": ("Lag", _show_lag),
    "queues": ("Queues", _show_queues),
    "dead_letters": ("Dead letters", _show_dead_letters),
    "notification_loss": ("Lost notifications found by sweeps", _show_loss),
}
