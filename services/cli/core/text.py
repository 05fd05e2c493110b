"""Words and figures for a terminal: nothing from a bucket may move the cursor or turn the line around."""

import re
import unicodedata
from datetime import timedelta

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Controls, formats (bidi marks among them), lone surrogates, and the two separators that end a line."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_KIB = 1024


def visible(text: str, limit: int | None = None) -> str:
    r"""Return `text` on one line, unsafe characters written as `\n`, `\x1b` or `\u202e`; cut at `limit`."""
    shown = "".join(_escaped(char) if unicodedata.category(char) in _UNSAFE else char for char in text)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def human_bytes(count: float) -> str:
    """Return a size such as `17 B` or `1.4 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < _KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.1f} TiB"


def duration(text: str) -> timedelta:
    """Read `90s`, `10m`, `2h` or `1d`.

    Raises:
        ValueError: it is none of these.

    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if found is None:
        msg = f"{text!r} is no duration; write 90s, 10m, 2h or 1d"
        raise ValueError(msg)
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Return `1 object` or `2 objects`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
