"""How values read on a page."""

from typing import Final

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024
_SHORT: Final = 16


def size_text(size: float | None) -> str:
    """Return a number of bytes with the largest unit that keeps it below 1,024."""
    if size is None:
        return ""
    unit = 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    number = f"{size:,.1f}" if unit else f"{size:,.0f}"
    return f"{number} {'byte' if not unit and size == 1 else _UNITS[unit]}"


def short(text: str | None) -> str:
    """Return the beginning of a digest, enough to distinguish two."""
    return "" if not text else text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
