"""Rejecting a file: what is wrong and how to fix it in one line, and the value without control characters."""

from services.etl.core.values import MAX_VALUE_CHARACTERS, RejectedRow
from shared.errors import PenstockError
from shared.text import visible


class RejectedFile(PenstockError):  # noqa: N818 - errors here are named after the outcome
    """The whole file is rejected; none of its rows is loaded."""

    def __init__(self, code: str, reason: str, *, column: str = "", value: str = "") -> None:
        super().__init__(reason)
        self.reject = RejectedRow(0, code, reason, column, printable(value))


def printable(value: str) -> str:
    r"""Return the start of `value` on one line, with invisible characters escaped as `\n` or `\u202e`."""
    return visible(value, MAX_VALUE_CHARACTERS)
