"""`penstock etl rejects`: rejected rows and files, and the reasons."""

from typing import Any, Final

from services.cli.adapters.datasets import rejects
from services.cli.core.text import plural
from services.cli.core.usage import UsageError
from services.cli.settings import load
from services.cli.terminal import Json, console, print_json, say, table
from shared.text import visible

VALUE_WIDTH: Final = 40


async def rejects_etl(dataset: str = "", *, file: str = "", limit: int = 100, json: Json = False) -> int:
    """Show rejected rows: file, row, column, value and reason.

    To clear the rejects of a file, correct it and store it again.

    For example:
        penstock etl rejects
        penstock etl rejects users --file 1042.csv
        penstock etl rejects --limit 1000 --json | jq -r '.rejects[].reason'

    Parameters
    ----------
    dataset:
        Name of the dataset; default: all datasets.
    file:
        Only this file: its key, with or without the bucket.
    limit:
        Maximum number of rows (100); the newest files come first.

    """
    if limit < 1:
        raise UsageError(f"etl rejects: --limit ({limit}) must be 1 or more")
    total, found = await rejects(load(), (dataset, file.removeprefix("s3://")), limit)
    if json:
        print_json({**total, "rejects": found})
    elif not found:
        say("no rejected rows", style="green")
    else:
        _show(total, found)
    return 0


def _show(total: dict[str, int], found: list[dict[str, Any]]) -> None:
    rows = table("file", "row", "column", "value", "reason")
    for one in found:
        rows.add_row(
            visible(f"{one['bucket']}/{one['key']}"),
            f"{one['row']:,}" if one["row"] else "all",
            visible(one["column"]),
            visible(one["value"], VALUE_WIDTH),
            visible(one["reason"]),
        )
    console().print(rows)
    rejected = f"{plural(total['rows'], 'row')} of {plural(total['files'], 'file')} rejected"
    say(f"{rejected}, {len(found):,} shown. Next: correct the files and store them again", style="dim")
