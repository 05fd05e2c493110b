"""Errors, by what whoever meets them should do.

PenstockError
├── Outage        the other side cannot be reached or is full: wait and try again for as long as it takes
└── Rejected      the data is wrong: dead-letter at once, with the reason

Everything else is unknown: bounded retries, then a dead letter. `kind_of` sorts the errors of client libraries
into the same three kinds; the module that wraps a library names its outages with `outages`.
"""

import enum
from collections.abc import Callable, Collection


class PenstockError(Exception):
    """Something Penstock can name; its text is one line that a user may read, without secrets."""


class Outage(PenstockError):  # noqa: N818 - an outage is not an error of ours
    """An outside system is unreachable, throttled or full; waiting mends it."""


class Rejected(PenstockError):  # noqa: N818 - what was done to the data, not what went wrong with us
    """The data is wrong and will stay wrong; `code` is stable for filters, the text says thing, reason and mend."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def require_input_bucket(bucket: str, inputs: Collection[str]) -> None:
    """Raise Rejected (FOREIGN_BUCKET) for a bucket that is no input: its name goes into no request."""
    if bucket not in inputs:
        raise Rejected(
            "FOREIGN_BUCKET",
            f"bucket {bucket!a} is no input of this Penstock; add it to PENSTOCK_INPUT_BUCKETS "
            "or remove its notification rule",
        )


class Kind(enum.StrEnum):
    """What to do about an error."""

    OUTAGE = "outage"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


_outages: set[type[BaseException]] = {Outage, ConnectionError, TimeoutError}
_rejections: set[type[BaseException]] = {Rejected}
_judges: list[Callable[[BaseException], bool]] = []


def register_outages(*types: type[BaseException]) -> None:
    """Count these types (and their subclasses) as outages from now on."""
    _outages.update(types)


def register_rejections(*types: type[BaseException]) -> None:
    """Count these types (and their subclasses) as rejected data from now on."""
    _rejections.update(types)


def register_outage_check(judge: Callable[[BaseException], bool]) -> None:
    """Count the errors that `judge` accepts as outages too, where a library's types alone do not tell."""
    _judges.append(judge)


def kind_of(error: BaseException) -> Kind:
    """Sort an error; what nobody has named is unknown."""
    error = _first(error)
    if isinstance(error, tuple(_rejections)):
        return Kind.REJECTED
    if isinstance(error, tuple(_outages)) or any(judge(error) for judge in _judges):
        return Kind.OUTAGE
    return Kind.UNKNOWN


def _first(error: BaseException) -> BaseException:
    """Return what a group of tasks failed of: its first error, which ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def one_line(error: BaseException, limit: int = 500) -> str:
    """Say an error in one line of at most `limit` characters, for headers, rows and terminals."""
    error = _first(error)
    text = " ".join(str(error).split()) or type(error).__name__
    named = text if isinstance(error, PenstockError) else f"{type(error).__name__}: {text}"
    return named if len(named) <= limit else named[: limit - 1] + "…"
