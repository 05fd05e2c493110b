"""The console's wiring: its commands, exit codes and error messages."""

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError, Parameter
from cyclopts.help import DefaultFormatter

from services.cli.core.usage import UsageError
from services.cli.terminal import help_console, note
from shared.errors import PenstockError, one_line

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

COMMANDS: Final = {
    "put": "Store files or folders in a bucket.",
    "digest": "Show the digests of one object.",
    "watch": "Follow the facts on the bus, live.",
    "status": "Show processes, consumer lag, queues, dead letters and lost notifications.",
    "doctor": "Check the whole stack; name each fault and its fix.",
    "sweep": "Compare the buckets with the recorded objects, now.",
    "setup": "Create topics, buckets, notification rules and users.",
    "login": "Print a link that logs in one browser, once.",
}
DEAD_LETTERS: Final = {
    "list": "List unresolved dead letters, grouped by cause.",
    "show": "Show one dead letter: headers and body.",
    "replay": "Publish dead letters to their original topics again.",
    "discard": "Mark dead letters as resolved without replaying them.",
}
TOKENS: Final = {
    "create": "Create a token and print it, once.",
    "list": "List the valid tokens.",
    "revoke": "Revoke a token at once.",
}
ETL: Final = {
    "run": "Compare a dataset's bucket with its table, now.",
    "status": "Show the datasets and their last loads.",
    "rejects": "Show rejected rows and the reasons.",
}
GROUPS: Final = {
    "etl": ("Load datasets into tables; show their state and rejected rows.", "etl", ETL),
    "dlq": ("List, show, replay or discard dead letters.", "dead_letters", DEAD_LETTERS),
    "token": ("Create, list or revoke the tokens of the ingress.", "token", TOKENS),
}
"""Command groups: help, suffix of the function names, and commands."""
AFTER_INTERRUPT: Final = {
    "put": "stored files stay stored; run the same command again to resume",
    "digest": "the hasher continues",
    "watch": "the services continue; facts stay on their topics for days",
    "status": "nothing was changed",
    "doctor": "a probe object may remain under inbox/.penstock/; the next check removes it",
    "sweep": "a requested sweep continues in ingest; see its result in penstock status",
    "etl": "a requested load continues in etl; see its result in penstock etl status",
    "dlq": "dead letters that were replayed or discarded are resolved; the others are unchanged",
    "setup": "every step can be repeated; run the same command again",
    "login": "a link that was created is valid for 15 minutes",
    "token": "the ingress may have executed the request; see penstock token list",
}
"""The state after Ctrl-C, by command."""

EPILOGUE: Final = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted; digest also 3 pending, 4 unknown. "
    "Settings come from PENSTOCK_* variables, then from .env."
)


def build_app(arguments: Sequence[str] = ()) -> App:
    """Return the command line; only the command in `arguments` is imported for its long help."""
    app = App(
        name="penstock",
        help="The operator's console of Penstock: a client of its buckets, topics and views.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        help_formatter=DefaultFormatter(),
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_bool=(), negative_iterable=(), show_default=False),
        version=_version,
    )
    for name, line in COMMANDS.items():
        module = f"services.cli.commands.{name}:{name}"
        app.command(module, name=name, help=None if name in arguments else line)
    for word, (about, noun, commands) in GROUPS.items():
        group = App(name=word, help=about)
        for name, line in commands.items():
            module = f"services.cli.commands.{word}_{name}:{name}_{noun}"
            group.command(module, name=name, help=None if name in arguments else line)
        app.command(group)
    app.register_install_completion_command(help="Install shell completion for bash, zsh or fish.")
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; print an error as one line: what is wrong, why and the fix."""
    quiet_libraries()
    try:
        app = build_app(arguments)
        command, bound, _ = app.parse_args(
            list(arguments), exit_on_error=False, print_error=False, console=help_console()
        )
        quiet_structlog()
        result = command(*bound.args, **bound.kwargs)
        return int((asyncio.run(result) if inspect.iscoroutine(result) else result) or DONE)
    except BrokenPipeError:
        # The reader closed the pipe (`penstock watch | head`); the interpreter must not flush into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every error becomes one line
        code, text = explain(error, arguments[0] if arguments else "")
        note(f"penstock: {text}", style="yellow" if code == INTERRUPTED else "red")
        return code


def explain(error: BaseException, command: str) -> tuple[int, str]:
    """Return the exit code and message for `error`; with PENSTOCK_LOG_LEVEL=DEBUG, raise an unexpected error."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED, f"interrupted: {AFTER_INTERRUPT.get(command, 'nothing was lost')}"
        case CycloptsError():
            words = " ".join(str(error).split()).rstrip(".")
            return USAGE, f"usage: {words}; see penstock {f'{command} ' if command in AFTER_INTERRUPT else ''}--help"
        case PenstockError():
            return USAGE if isinstance(error, UsageError) else FAILED, one_line(error)
        case _ if _is_verbose():
            raise error
    return FAILED, f"internal error: {one_line(error)}; set PENSTOCK_LOG_LEVEL=DEBUG for the traceback"


def quiet_libraries() -> None:
    """Hide the log messages of libraries unless PENSTOCK_LOG_LEVEL is DEBUG."""
    logging.disable(logging.NOTSET if _is_verbose() else logging.CRITICAL)


def quiet_structlog() -> None:
    """Hide our own log messages too, if the command has imported a module that logs.

    Call it after that import: structlog would take a third of the start of a command that logs nothing.
    """
    if _is_verbose() or "structlog" in sys.modules:
        from shared import logs  # noqa: PLC0415 - see the docstring

        logs.configure("cli", level="DEBUG" if _is_verbose() else "ERROR")


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - only --version needs it

    return version("penstock")


def _is_verbose() -> bool:
    return os.environ.get("PENSTOCK_LOG_LEVEL") == "DEBUG"
