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

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NOTES: Final[list[int]] = []
"""The two ends of a pipe once this process listens; the first stop signal writes a byte to end a wait."""


class Stopped(BaseException):
    """A signal requested a stop."""


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Block stop signals inside the block; a program started in it blocks them too until it listens."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen() -> None:
    """Listen for the first stop signal, even if a shell had it ignored; later ones do not interrupt the stop."""
    _NOTES[:] = os.pipe()
    requested = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal requested
        if not requested:
            requested = True
            os.write(_NOTES[1], b"!")

    for number in STOP_SIGNALS:
        signal.signal(number, note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def sleep(seconds: float) -> None:
    """Wait; a stop signal ends the wait of a process that listens.

    Raises:
        Stopped: a signal requested a stop, now or since the last wait; only once.

    """
    if not _NOTES:
        time.sleep(seconds)
    elif select.select(_NOTES[:1], [], [], seconds)[0]:
        os.read(_NOTES[0], 1)
        raise Stopped
