"""Terminal output: answers on standard output, as text or JSON; progress and errors on standard error."""

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

HELP_WIDTH = 100
PIPE_WIDTH = 200
"""Columns when the output is not a terminal: lines in a pipe are not wrapped."""


class _Console(Console):
    """A console that raises BrokenPipeError instead of exiting when its reader closes the pipe."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@cache
def console(*, stderr: bool = False) -> Console:
    """Return a console that does not color numbers and does not wrap lines in a pipe."""
    tty = (sys.stderr if stderr else sys.stdout).isatty()
    return _Console(stderr=stderr, highlighter=NullHighlighter(), width=None if tty else PIPE_WIDTH, soft_wrap=not tty)


def help_console() -> Console:
    """Return the console for help texts, at most `HELP_WIDTH` columns wide."""
    return _Console(highlighter=NullHighlighter(), width=min(HELP_WIDTH, Console().width))


def say(text: str, style: str = "") -> None:
    """Print one line on standard output, without markup and with control characters escaped."""
    console().print(Text(visible(text), style=style))


def note(text: str, style: str = "dim") -> None:
    """Print one line on standard error, so that standard output has only the answer."""
    console(stderr=True).print(Text(visible(text), style=style))


def print_json(document: Mapping[str, Any] | Sequence[Any], *, indent: int | None = 2) -> None:
    """Print one JSON document in ASCII, so that no object key can send control sequences to the terminal."""
    sys.stdout.write(json.dumps(document, indent=indent, default=str) + "\n")
    sys.stdout.flush()


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def progress() -> "Progress":
    """Return a progress bar with bytes, rate and time left, on standard error; silent without a terminal."""
    # most commands show no progress bar
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
    """Return a spinner with a text, on standard error; silent without a terminal."""
    return console(stderr=True).status(text)


def table(*columns: str) -> Table:
    """Return a table without a frame whose long values wrap."""
    rows = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        rows.add_column(column, overflow="fold")
    return rows


def track_progress(items: Sequence[T], noun: str) -> Iterable[T]:
    """Yield `items` under a progress bar with the time left, on standard error; silent without a terminal."""
    from rich.progress import track  # noqa: PLC0415 - as above

    return track(items, noun, console=console(stderr=True), transient=True, disable=not sys.stderr.isatty())
