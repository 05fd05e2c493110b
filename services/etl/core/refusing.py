"""How a row or a file is refused: thing, reason and mend in one line, and a value that no terminal obeys."""

import unicodedata
from typing import Final

from services.etl.core.values import VALUE_CHARACTERS, Reject
from shared.errors import PenstockError

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, formats (bidirectional marks among them), surrogates, and the two separators that end a line."""


class Refused(PenstockError):  # noqa: N818 - what became of it, as everywhere here
    """The file as a whole is refused; none of its rows counts."""

    def __init__(self, code: str, reason: str, *, column: str = "", value: str = "") -> None:
        super().__init__(reason)
        self.reject = Reject(0, code, reason, column, shown(value))


def shown(value: str) -> str:
    r"""Return the beginning of `value` on one line, what cannot be seen written as `\n` or `\u202e`."""
    cut = value[: VALUE_CHARACTERS + 1]
    if not cut.isprintable():
        cut = "".join(_escaped(char) if unicodedata.category(char) in _UNSEEN else char for char in cut)
    return cut if len(cut) <= VALUE_CHARACTERS else f"{cut[: VALUE_CHARACTERS - 1]}…"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
