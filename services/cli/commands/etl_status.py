"""`penstock etl status`: what is in the tables, and what the last loads found."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from rich.text import Text

from services.cli.adapters.datasets import datasets, loads
from services.cli.core.loads import age, describe_load
from services.cli.core.text import plural
from services.cli.settings import load
from services.cli.terminal import Json, console, emit, say, table
from shared.text import visible

STYLES: Final = {
    "succeeded": "green",
    "up to date": "green",
    "behind": "yellow",
    "failed": "bold red",
    "refused": "bold red",
}
WHY_WIDTH: Final = 100


async def status_etl(*, limit: int = 5, json: Json = False) -> int:
    """Show each dataset: its rows, its rejected rows, the age of its files, and the last loads.

    Rows are those of the output files; `written` is how long ago these were, and
    `behind` says that the table has changed since. `failed`: a load failed, or
    objects could not be loaded, and `penstock etl rejects` says why. `refused`:
    the section cannot be used, and etl leaves it out.

    For example:
        penstock etl status
        penstock etl status --limit 20
        penstock etl status --json | jq '.datasets[] | select(.is_behind)'

    Parameters
    ----------
    limit:
        Loads to show, the newest first (5).

    """
    settings = load()
    known, last = await asyncio.gather(datasets(settings), loads(settings, limit))
    if json:
        emit({"datasets": known, "loads": last})
        return 0
    _show_datasets(known)
    say("")
    say("Last loads", style="bold")
    _show_loads(last) if last else say("none", style="dim")
    return 0


def _show_datasets(known: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    made = table("dataset", "rows", "files", "images", "rejected", "changed", "written", "")
    for one in known:
        made.add_row(
            visible(one["name"]),
            "-" if one["rows"] is None else f"{one['rows']:,}",
            f"{one['files']:,}",
            f"{one['images']:,}",
            Text(f"{one['rejected']:,}", style="yellow" if one["rejected"] else "green"),
            age(one["loaded_at"], now),
            age(one["exported_at"], now),
            Text(_state(one), style=STYLES.get(one["state"], "yellow")),
        )
    console().print(made)
    for one in known:
        if one["error"]:
            say(f"{visible(one['name'])}: {visible(one['error'])}", style="red")


def _state(one: dict[str, Any]) -> str:
    return f"{one['state']}: {plural(one['failed'], 'object')}" if one["failed"] else str(one["state"])


def _show_loads(last: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    made = table("asked for", "dataset", "why", "state", "took", "found")
    for one in last:
        took = "-" if one["started_at"] is None else f"{one['seconds']:.1f} s"
        found = visible(str(one["error"]), WHY_WIDTH) if one["error"] else describe_load(one)
        asked = f"{age(one['requested_at'], now)} ago"
        state = Text(one["state"], style=STYLES.get(one["state"], "yellow"))
        made.add_row(asked, visible(one["dataset"]), visible(one["why"]), state, took, found)
    console().print(made)
