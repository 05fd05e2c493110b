"""What a person sees: text to standard output, trouble to standard error, JSON when asked for."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter
from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.table import Table
from rich.text import Text

from shared.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.status import Status

T = TypeVar("T")

Json = Annotated[
    bool, Parameter(name="--json", negative="", help="Print JSON for programs instead of text for people.")
]
"""The flag that every command has."""

PAGE = 100
WIDE = 200
"""Columns when nobody looks: lines in a pipe are not folded."""


class _Console(Console):
    """A console whose reader may go away like any other's."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@cache
def console(*, stderr: bool = False) -> Console:
    """Return a console that neither guesses colours of figures nor folds lines in a pipe."""
    tty = (sys.stderr if stderr else sys.stdout).isatty()
    return _Console(stderr=stderr, highlighter=NullHighlighter(), width=None if tty else WIDE, soft_wrap=not tty)


def page() -> Console:
    """Return the console that help is written on: no wider than a page."""
    return _Console(highlighter=NullHighlighter(), width=min(PAGE, Console().width))


def say(text: str, style: str = "") -> None:
    """Print one line; `text` is shown as it is, without markup, its control characters made visible."""
    console().print(Text(visible(text), style=style))


def note(text: str, style: str = "dim") -> None:
    """Tell on standard error what goes on, so that standard output stays the answer."""
    console(stderr=True).print(Text(visible(text), style=style))


def emit(document: Mapping[str, Any] | Sequence[Any], *, indent: int | None = 2) -> None:
    """Print one JSON document; ASCII only, so that no key can play with the terminal."""
    sys.stdout.write(json.dumps(document, indent=indent, default=str) + "\n")
    sys.stdout.flush()


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def progress() -> "Progress":
    """Return a bar with bytes, rate and time left, on standard error; silent when nobody looks."""
    # most commands show no bar
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def spinner(text: str) -> "Status":
    """Return a sign of life for work without a measure, on standard error; silent when nobody looks."""
    return console(stderr=True).status(text)


def table(*columns: str) -> Table:
    """Return a quiet table: no frame, the last column takes the room."""
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def counting(things: Sequence[T], noun: str) -> Iterable[T]:
    """Yield `things` under a bar with the time left, on standard error; silent when nobody looks."""
    from rich.progress import track  # noqa: PLC0415 - as above

    return track(things, noun, console=console(stderr=True), transient=True, disable=not sys.stderr.isatty())
