"""How a row or a file is refused: thing, reason and mend in one line, and a value that no terminal obeys."""

from services.etl.core.values import MAX_VALUE_CHARACTERS, RejectedRow
from shared.errors import PenstockError
from shared.text import visible


class RejectedFile(PenstockError):  # noqa: N818 - what became of it, as everywhere here
    """The file as a whole is refused; none of its rows counts."""

    def __init__(self, code: str, reason: str, *, column: str = "", value: str = "") -> None:
        super().__init__(reason)
        self.reject = RejectedRow(0, code, reason, column, printable(value))


def printable(value: str) -> str:
    r"""Return the beginning of `value` on one line, what cannot be seen written as `\n` or `\u202e`."""
    return visible(value, MAX_VALUE_CHARACTERS)
