"""Requests to stop: held back where they would be lost, and taken where they can be obeyed."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

ASKING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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
    """Turn the first request into Stopped, also where a shell had it ignored; later ones cannot cut stopping short."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in ASKING:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    for number in ASKING:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
