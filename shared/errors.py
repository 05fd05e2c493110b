"""Errors, classified by how to handle them.

PenstockError
├── Outage        the other side is unreachable or full: retry for as long as it takes
└── Rejected      the data is wrong: dead-letter at once, with the reason

Everything else is unknown: bounded retries, then a dead letter. `kind_of` classifies the errors of client libraries
into the same three kinds; the module that wraps a library registers its outages with `register_outages`.
"""

import enum
from collections.abc import Callable, Collection


class PenstockError(Exception):
    """An expected error; its text is one line for users, without secrets."""


class Outage(PenstockError):  # noqa: N818 - the state of another system, not a fault of ours
    """An outside system is unreachable, throttled or full; retrying helps."""


class Rejected(PenstockError):  # noqa: N818 - a verdict on the data, not a fault of ours
    """The data is wrong and retrying cannot help; `code` is stable for filters, the text names the fix."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def require_input_bucket(bucket: str, inputs: Collection[str]) -> None:
    """Raise Rejected (FOREIGN_BUCKET) unless `bucket` is an input, before its name goes into any request."""
    if bucket not in inputs:
        raise Rejected(
            "FOREIGN_BUCKET",
            f"bucket {bucket!a} is no input of this Penstock; add it to PENSTOCK_INPUT_BUCKETS "
            "or remove its notification rule",
        )


class Kind(enum.StrEnum):
    """How to handle an error."""

    OUTAGE = "outage"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


_outages: set[type[BaseException]] = {Outage, ConnectionError, TimeoutError}
_rejections: set[type[BaseException]] = {Rejected}
_outage_checks: list[Callable[[BaseException], bool]] = []


def register_outages(*types: type[BaseException]) -> None:
    """Classify these types and their subclasses as outages."""
    _outages.update(types)


def register_rejections(*types: type[BaseException]) -> None:
    """Classify these types and their subclasses as rejected data."""
    _rejections.update(types)


def register_outage_check(is_outage: Callable[[BaseException], bool]) -> None:
    """Classify errors for which `is_outage` is true as outages, where a library's types do not tell them apart."""
    _outage_checks.append(is_outage)


def kind_of(error: BaseException) -> Kind:
    """Classify an error; unregistered types are UNKNOWN."""
    error = _first(error)
    if isinstance(error, tuple(_rejections)):
        return Kind.REJECTED
    if isinstance(error, tuple(_outages)) or any(is_outage(error) for is_outage in _outage_checks):
        return Kind.OUTAGE
    return Kind.UNKNOWN


def _first(error: BaseException) -> BaseException:
    """Return the first error of an exception group, the one that ended the other tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def one_line(error: BaseException, limit: int = 500) -> str:
    """Format an error as one line of at most `limit` characters, for headers, rows and terminals."""
    error = _first(error)
    text = " ".join(str(error).split()) or type(error).__name__
    named = text if isinstance(error, PenstockError) else f"{type(error).__name__}: {text}"
    return named if len(named) <= limit else named[: limit - 1] + "…"
