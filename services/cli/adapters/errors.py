"""Translate the errors of client libraries into one line that names the server, the cause and the fix.

Each adapter registers the errors of the library that it wraps, so that a command imports only the libraries it uses.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

from shared import tls
from shared.errors import Outage, PenstockError, one_line

START_HINT: Final = "start the stack with `make up`, or run `penstock doctor`"
SETUP_HINT: Final = "run `penstock setup` to create Penstock's own buckets"
KEYS_HINT: Final = "check the keys in .env"

Explain: TypeAlias = Callable[[str, Any], PenstockError]
"""Builds the console's error from the server's name and the library's error."""

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
def translate_errors(server: str) -> Iterator[None]:
    """Translate the errors of registered libraries in this block; `server` names the server in the text.

    Raises:
        Outage: the server does not answer, or fails.
        Rejected: the server rejects the request.

    """
    try:
        yield
    except (PenstockError, BrokenPipeError):
        # a broken pipe is that of the console's reader, not of a server
        raise
    except tuple(_rejections) as error:
        explain = next(explain for known, explain in _rejections.items() if isinstance(error, known))
        raise explain(server, error) from error
    except tuple(_outages) as error:
        raise Outage(f"{server} does not answer: {describe_failure(error)}; {START_HINT}") from error
    except tuple(_failures) as error:
        raise Outage(f"{server} failed: {describe_failure(error)}; {START_HINT}") from error


@asynccontextmanager
async def within(seconds: float, server: str) -> AsyncIterator[None]:
    """Limit this block to `seconds`, and translate errors as `translate_errors` does.

    Raises:
        Outage: no answer within `seconds`, or the server fails.
        Rejected: the server rejects the request.

    """
    with translate_errors(server):
        async with asyncio.timeout(seconds):
            yield


def describe_failure(error: BaseException) -> str:
    """Return the reason of a failed connection, as the operating system words it, else the error's own text."""
    if reason := tls.describe_failure(error):
        return reason
    if reason := next((reason for known, reason in _outages.items() if reason and isinstance(error, known)), ""):
        return reason
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return one_line(error)
