"""Sizes, durations and plurals in text."""

import re
from datetime import timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_KIB = 1024


def human_bytes(count: float) -> str:
    """Return a size such as `17 B` or `1.4 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < _KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.1f} TiB"


def parse_duration(text: str) -> timedelta:
    """Read `90s`, `10m`, `2h` or `1d`.

    Raises:
        ValueError: `text` has another form.

    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if found is None:
        msg = f"{text!r} is not a duration: write 90s, 10m, 2h or 1d"
        raise ValueError(msg)
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Return `1 object` or `2 objects`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
