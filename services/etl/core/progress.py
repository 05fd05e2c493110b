"""How far a full load is, for programs and for people."""

from collections.abc import Mapping
from typing import Any


def listing(listed: int, differing: int) -> dict[str, Any]:
    """Tell of a bucket that is still being listed: how much there is in all, nobody knows."""
    message = f"{_objects(listed)} listed, {differing:,} to be read"
    return {"listed": listed, "differing": differing, "message": message}


def reading(listed: int, differing: int, *, share: float, seconds: float) -> dict[str, Any]:
    """Tell what share of what differs is read after so many seconds, how fast that was, and how long the rest takes.

    A load that was taken over has nothing listed when it waits for what was begun already.
    """
    rate = round(differing * share / seconds) if seconds else 0
    seconds_left = round(seconds * (1 - share) / share, 1) if share else None
    parts = [f"{share:.0%} of {_objects(differing)} read, {rate:,} a second" if differing else f"{share:.0%} read"]
    parts += [] if seconds_left is None else [f"{seconds_left:,.0f} s left"]
    figures = {"done": round(share, 4), "objects_per_second": rate, "eta_seconds": seconds_left}
    return {**listing(listed, differing), **figures, "message": ", ".join(parts)}


def fraction_read(report: Mapping[str, Any]) -> float:
    """Return what share of its bytes a large file's report tells as read; of what reports none, nothing."""
    return float(report["bytes"] / report["size"]) if report.get("size") else 0.0


def _objects(count: int) -> str:
    return f"{count:,} object{'' if count == 1 else 's'}"
