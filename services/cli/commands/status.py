"""`penstock status`: what runs, what waits and what was lost."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from rich.text import Text

from services.cli.adapters import lags, stack, views
from services.cli.core.text import plural, visible
from services.cli.settings import load
from services.cli.terminal import Json, console, emit, note, say, table
from shared.errors import PenstockError, one_line

STYLES = {"running": "green", "ready": "green", "healthy": "green", "starting": "yellow", "backoff": "yellow"}


async def status(*, json: Json = False) -> int:
    """Show what runs, how far each consumer group is behind, queues, dead letters and lost notifications.

    Each part stands alone: a server that is down costs its own part, and the exit code is then 1. In JSON
    such a part is null, and `errors` says why.

    Examples:
        penstock status
        penstock status --json | jq .lag
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
    errors = {part: one_line(answer) for part, answer in found.items() if isinstance(answer, PenstockError)}
    for answer in found.values():
        if isinstance(answer, BaseException) and not isinstance(answer, PenstockError):
            raise answer
    known = {part: None if part in errors else answer for part, answer in found.items()}
    known["processes"] = known["processes"] or []
    if json:
        emit(known | {"errors": errors})
    else:
        _show(known, errors)
    return 1 if errors else 0


def _show(known: dict[str, Any], errors: dict[str, str]) -> None:
    _show_processes(known["processes"])
    _show_lag(known["lag"])
    _show_queues(known["queues"])
    _show_dead_letters(known["dead_letters"])
    _show_loss(known["notification_loss"])
    for line in dict.fromkeys(errors.values()):
        parts = ", ".join(part.replace("_", " ") for part, error in errors.items() if error == line)
        note(f"penstock: status: {parts}: {line}", style="red")


def _heading(text: str) -> None:
    console().print(Text(text, style="bold"))


def _show_processes(processes: list[dict[str, Any]]) -> None:
    if not processes:
        return
    _heading("Processes")
    made = table("name", "state", "pid", "restarts")
    for one in processes:
        state = str(one.get("state"))
        cells = (
            str(one.get(name) or 0) if one.get(name) is not None else "-" for name in ("pid", "restarts")
        )
        made.add_row(visible(str(one["name"])), Text(state, style=STYLES.get(state, "red")), *cells)
    console().print(made)


def _show_lag(lag: dict[str, dict[str, int]] | None) -> None:
    if lag is None:
        return
    _heading("\nLag")
    made = table("group", "topic", "records")
    for group, topics in lag.items():
        for topic, count in topics.items():
            made.add_row(group, topic, Text(f"{count:,}", style="yellow" if count else "green"))
    console().print(made)


def _show_queues(queues: dict[str, dict[str, int]] | None) -> None:
    if not queues:
        return
    _heading("\nQueues")
    made = table("queue", "state", "items")
    for queue, states in queues.items():
        for state, count in states.items():
            made.add_row(visible(queue), state, Text(f"{count:,}", style="red" if state == "failed" else ""))
    console().print(made)


def _show_dead_letters(waiting: dict[str, int] | None) -> None:
    if waiting is None:
        return None
    _heading("\nDead letters")
    if not sum(waiting.values()):
        return say("none", style="green")
    for topic, count in waiting.items():
        if count:
            say(f"{count:>8,}  {topic}", style="red")
    return say("penstock dlq list tells why", style="dim")


def _show_loss(loss: dict[str, Any] | None) -> None:
    if loss is None:
        return None
    _heading("\nNotification loss, as sweeps found it")
    if not loss["sweeps"]:
        return say("no sweep yet", style="dim")
    lost = loss["missed"] + loss["vanished"]
    found = f"missed {loss['missed']:,}   vanished {loss['vanished']:,}"
    total = f"in {plural(loss['sweeps'], 'sweep')} over {plural(loss['listed'], 'listed object')}"
    return say(f"{found}   {total}", style="yellow" if lost else "green")
