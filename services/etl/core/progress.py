"""Progress reports of full loads."""

from collections.abc import Mapping
from typing import Any


def listing(listed: int, differing: int) -> dict[str, Any]:
    """Report a bucket that is still being listed; the total is unknown."""
    message = f"{_objects(listed)} listed, {differing:,} to be read"
    return {"listed": listed, "differing": differing, "message": message}


def reading(listed: int, differing: int, *, share: float, rate: int, eta_seconds: float | None) -> dict[str, Any]:
    """Report the share done, the objects read per second, and the remaining seconds if known.

    `listed` and `differing` are 0 while a load that was taken over waits for its first chunks.
    """
    parts = [f"{share:.0%} of {_objects(differing)} read, {rate:,} a second" if differing else f"{share:.0%} read"]
    parts += [] if eta_seconds is None else [f"{eta_seconds:,.0f} s left"]
    figures = {"done": round(share, 4), "objects_per_second": rate, "eta_seconds": eta_seconds}
    return {**listing(listed, differing), **figures, "message": ", ".join(parts)}


def fraction_read(report: Mapping[str, Any]) -> float:
    """Return the fraction of bytes read by the report of a large file; 0 without a size."""
    return float(report["bytes"] / report["size"]) if report.get("size") else 0.0


def _objects(count: int) -> str:
    return f"{count:,} object{'' if count == 1 else 's'}"
