"""Translate the errors of client libraries into one line that names the server, the cause and the fix.

Each adapter registers the errors of the library that it wraps, so that a command imports only the libraries it uses.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from shared import tls
from shared.errors import Outage, PenstockError, one_line

START = "start the stack with `make up`, or run `penstock doctor`"
SETUP = "run `penstock setup` to create Penstock's own buckets"
LOGIN = "check the keys in .env"

Explain: TypeAlias = Callable[[str, Any], PenstockError]
"""Makes the console's error from the server's name and a library's error."""

_rejections: dict[type[BaseException], Explain] = {}
_outages: dict[type[BaseException], str] = {OSError: "", TimeoutError: "no answer in time"}
_failures: set[type[BaseException]] = set()


def register_rejections(explain: Explain, *types: type[BaseException]) -> None:
    """Translate these types and their subclasses by `explain`; they take precedence over outages and failures."""
    _rejections.update(dict.fromkeys(types, explain))


def register_outages(reason: str, *types: type[BaseException]) -> None:
    """Report these types and their subclasses as "does not answer"; an empty `reason` means the error's own text."""
    _outages.update(dict.fromkeys(types, reason))


def register_failures(*types: type[BaseException]) -> None:
    """Report these types and their subclasses as "failed", unless they are registered as rejections or outages."""
    _failures.update(types)


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Name the server that failed, why, and what to do.

    Raises:
        Outage: it does not answer.
        Rejected: it answers, and refuses.

    """
    try:
        yield
    except (PenstockError, BrokenPipeError):
        # a broken pipe is our reader's, not a server's
        raise
    except tuple(_rejections) as error:
        explain = next(explain for known, explain in _rejections.items() if isinstance(error, known))
        raise explain(what, error) from error
    except tuple(_outages) as error:
        raise Outage(f"{what} does not answer: {why(error)}; {START}") from error
    except tuple(_failures) as error:
        raise Outage(f"{what} failed: {why(error)}; {START}") from error


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """Give a server this long.

    Raises:
        Outage: that was not enough, or it failed before.

    """
    with reaching(what):
        async with asyncio.timeout(seconds):
            yield


def why(error: BaseException) -> str:
    """Say a connection's failure in the words of the system, anything else in its own."""
    if reason := tls.describe_failure(error):
        return reason
    if reason := next((reason for known, reason in _outages.items() if reason and isinstance(error, known)), ""):
        return reason
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return one_line(error)
