"""`penstock etl status`: the datasets and their last loads."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from rich.text import Text

from services.cli.adapters.datasets import datasets, loads
from services.cli.core.loads import age, describe_load
from services.cli.core.text import plural
from services.cli.settings import load
from services.cli.terminal import Json, console, print_json, say, table
from shared.text import visible

STYLES: Final = {
    "succeeded": "green",
    "up to date": "green",
    "behind": "yellow",
    "failed": "bold red",
    "refused": "bold red",
}
ERROR_WIDTH: Final = 100


async def status_etl(*, limit: int = 5, json: Json = False) -> int:
    """Show each dataset: rows, rejected rows, age of its output files, and the last loads.

    Rows are those of the output files; `written` is their age. `behind`: the table
    has changed since. `failed`: a load failed, or objects could not be loaded; see
    `penstock etl rejects`. `refused`: the section of the dataset is invalid, and
    etl ignores it.

    For example:
        penstock etl status
        penstock etl status --limit 20
        penstock etl status --json | jq '.datasets[] | select(.is_behind)'

    Parameters
    ----------
    limit:
        Maximum number of loads (5), the newest first.

    """
    settings = load()
    found, last_loads = await asyncio.gather(datasets(settings), loads(settings, limit))
    if json:
        print_json({"datasets": found, "loads": last_loads})
        return 0
    _show_datasets(found)
    say("")
    say("Last loads", style="bold")
    _show_loads(last_loads) if last_loads else say("none", style="dim")
    return 0


def _show_datasets(found: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    rows = table("dataset", "rows", "files", "images", "rejected", "changed", "written", "")
    for one in found:
        rows.add_row(
            visible(one["name"]),
            "-" if one["rows"] is None else f"{one['rows']:,}",
            f"{one['files']:,}",
            f"{one['images']:,}",
            Text(f"{one['rejected']:,}", style="yellow" if one["rejected"] else "green"),
            age(one["loaded_at"], now),
            age(one["exported_at"], now),
            Text(_state(one), style=STYLES.get(one["state"], "yellow")),
        )
    console().print(rows)
    for one in found:
        if one["error"]:
            say(f"{visible(one['name'])}: {visible(one['error'])}", style="red")


def _state(one: dict[str, Any]) -> str:
    return f"{one['state']}: {plural(one['failed'], 'object')}" if one["failed"] else str(one["state"])


def _show_loads(last_loads: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    rows = table("requested", "dataset", "why", "state", "took", "found")
    for one in last_loads:
        took = "-" if one["started_at"] is None else f"{one['seconds']:.1f} s"
        result = visible(str(one["error"]), ERROR_WIDTH) if one["error"] else describe_load(one)
        requested = f"{age(one['requested_at'], now)} ago"
        state = Text(one["state"], style=STYLES.get(one["state"], "yellow"))
        rows.add_row(requested, visible(one["dataset"]), visible(one["why"]), state, took, result)
    console().print(rows)
