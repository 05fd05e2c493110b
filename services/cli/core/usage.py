"""A command line that cannot be meant."""

from shared.errors import PenstockError


class WrongUsage(PenstockError):  # noqa: N818 - what was done, not what went wrong
    """The words of the command line do not fit together; nothing was done."""
