"""Wait for what must become true, never for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_EVERY_SECONDS = 0.2


def until(
    condition: Callable[[], T], seconds: float, what: str | Callable[[], object], *, every: float = LOOK_EVERY_SECONDS
) -> T:
    """Return what `condition` gives once that is true; after `seconds` fail and say `what` was awaited."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what() if callable(what) else what}")
        time.sleep(every)
    return found
