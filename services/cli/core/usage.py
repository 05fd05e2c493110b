"""The error of an invalid command line."""

from shared.errors import PenstockError


class UsageError(PenstockError):
    """The arguments are invalid or contradict each other; nothing was done."""
