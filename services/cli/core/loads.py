"""Loads of etl, described for people."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

COUNTS: Final = ("changed", "removed", "rows", "rejected")


def describe_load(load: Mapping[str, Any]) -> str:
    """Return its progress while it runs, else its counts: `changed 2   removed 0   rows 2   rejected 1`."""
    if progress := load.get("progress"):
        return str(progress["message"])
    return "   ".join(f"{name} {load[name]:,}" for name in COUNTS)


def age(moment: datetime | None, now: datetime) -> str:
    """Return the time since `moment` in one unit: `12 s`, `5 min`, `3 h` or `4 d`; `-` for None."""
    if moment is None:
        return "-"
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
