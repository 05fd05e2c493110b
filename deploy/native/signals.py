"""Requests to stop: noted whenever they come, and obeyed where the program waits.

A handler that raises would do so anywhere: inside a destructor, which swallows it, or between a lock and the block that
gives it back, after which another thread waits for ever. So a handler only takes note, and every wait of the stack is
one of this module's.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final

ASKING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NOTES: Final[list[int]] = []
"""The two ends of a pipe, once we listen; the first request is a byte in it, so that a wait ends at once."""


class Stopped(BaseException):
    """Somebody asked us to end."""


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold back requests while the block runs; a program started in it holds them back, too, until it listens."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen() -> None:
    """Take note of the first request, also where a shell had it ignored; later ones cannot cut stopping short."""
    _NOTES[:] = os.pipe()
    asked = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            os.write(_NOTES[1], b"!")

    for number in ASKING:
        signal.signal(number, note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)


def sleep(seconds: float) -> None:
    """Wait; a program that listens is woken by a request to stop.

    Raises:
        Stopped: somebody asked us to end, now or since the last wait; only once.

    """
    if not _NOTES:
        time.sleep(seconds)
    elif select.select(_NOTES[:1], [], [], seconds)[0]:
        os.read(_NOTES[0], 1)
        raise Stopped
