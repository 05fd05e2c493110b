"""`penstock etl rejects`: which rows and files are not in the tables, and why."""

from typing import Any, Final

from services.cli.adapters.datasets import rejects
from services.cli.core.text import plural
from services.cli.core.usage import WrongUsage
from services.cli.settings import load
from services.cli.terminal import Json, console, emit, say, table
from shared.text import visible

VALUE_WIDTH: Final = 40


async def rejects_etl(dataset: str = "", *, file: str = "", limit: int = 100, json: Json = False) -> int:
    """Show rejected rows: which file, row, column and value, and why.

    Store the file again, corrected, and its rejects are gone.

    For example:
        penstock etl rejects
        penstock etl rejects users --file 1042.csv
        penstock etl rejects --limit 1000 --json | jq -r '.rejects[].reason'

    Parameters
    ----------
    dataset:
        As the file of datasets names it; all of them unless named.
    file:
        Only this file: its key, with or without its bucket.
    limit:
        Rows to show (100); the newest files first.

    """
    if limit < 1:
        raise WrongUsage("etl rejects: --limit has to be 1 or more")
    total, found = await rejects(load(), (dataset, file.removeprefix("s3://")), limit)
    if json:
        emit({**total, "rejects": found})
    elif not found:
        say("nothing is rejected", style="green")
    else:
        _show(total, found)
    return 0


def _show(total: dict[str, int], found: list[dict[str, Any]]) -> None:
    made = table("file", "row", "column", "value", "reason")
    for one in found:
        made.add_row(
            visible(f"{one['bucket']}/{one['key']}"),
            f"{one['row']:,}" if one["row"] else "all",
            visible(one["column"]),
            visible(one["value"], VALUE_WIDTH),
            visible(one["reason"]),
        )
    console().print(made)
    rejected = f"{plural(total['rows'], 'row')} of {plural(total['files'], 'file')} rejected"
    say(f"{rejected}, {len(found):,} shown; correct a file and store it again", style="dim")
