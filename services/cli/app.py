"""The console's only wiring: which commands there are, and how each may end."""

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError, Parameter
from cyclopts.help import DefaultFormatter

from services.cli.core.usage import WrongUsage
from services.cli.terminal import note, page
from shared.errors import PenstockError, one_line

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

COMMANDS: Final = {
    "put": "Store files or folders in a bucket.",
    "digest": "Show the digests of one object.",
    "watch": "Follow the facts on the bus, live.",
    "status": "Show what runs, what waits and what was lost.",
    "doctor": "Check the whole stack; name each fault and its mend.",
    "sweep": "Compare the buckets with what is known, now.",
    "setup": "Make topics, buckets, rules and users, once.",
    "login": "Print a link that logs one browser in, once.",
}
DEAD_LETTERS: Final = {
    "list": "List what waits, grouped by cause.",
    "show": "Show one dead letter: headers and body.",
    "replay": "Send dead letters back to where they came from.",
    "discard": "Settle dead letters without sending them anywhere.",
}
TOKENS: Final = {
    "create": "Make a token and print it, this once.",
    "list": "List the tokens that hold.",
    "revoke": "Revoke a token at once.",
}
ETL: Final = {
    "run": "Compare a dataset's bucket with its table, now.",
    "status": "Show what is in the tables, and the last loads.",
    "rejects": "Show rejected rows, and why.",
}
GROUPS: Final = {
    "etl": ("Load, look at and mend the tables made of files.", "etl", ETL),
    "dlq": ("List, show, replay or discard dead letters.", "letters", DEAD_LETTERS),
    "token": ("Make, list or revoke the tokens of the ingress.", "token", TOKENS),
}
"""Commands of two words: what they are about, and the noun of their functions."""
GOES_ON: Final = {
    "put": "what was stored stays; give the same command again to go on where it stopped",
    "digest": "the digest is made without it",
    "watch": "the services work on; facts stay on their topics for days",
    "status": "nothing was changed",
    "doctor": "a probe object may remain under inbox/.penstock/; the next check removes it",
    "sweep": "the sweep goes on in ingest; its result will be in penstock status",
    "etl": "a load that was asked for goes on in etl; its result will be in penstock etl status",
    "dlq": "what was settled so far stays settled; the rest waits",
    "setup": "every step can be repeated; give the same command again",
    "login": "a link that was made is good for 15 minutes",
    "token": "what the ingress was asked for may have been done; see penstock token list",
}
"""What happens without the console once it is interrupted."""

EPILOGUE: Final = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted; digest also 3 pending, 4 unknown. "
    "The stack is found by PENSTOCK_* variables, then by .env."
)


def build_app(asked: Sequence[str] = ()) -> App:
    """Return the command line; a command is loaded, and explains itself at length, when it is `asked` for."""
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
        app.command(module, name=name, help=None if name in asked else line)
    for word, (about, noun, commands) in GROUPS.items():
        group = App(name=word, help=about)
        for name, line in commands.items():
            module = f"services.cli.commands.{word}_{name}:{name}_{noun}"
            group.command(module, name=name, help=None if name in asked else line)
        app.command(group)
    app.register_install_completion_command(help="Install shell completion for bash, zsh or fish.")
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; trouble becomes one line: what, why and how to mend it."""
    quiet_libraries()
    try:
        app = build_app(arguments)
        command, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False, console=page())
        quiet_structlog()
        result = command(*bound.args, **bound.kwargs)
        return int((asyncio.run(result) if inspect.iscoroutine(result) else result) or DONE)
    except BrokenPipeError:
        # Our reader has gone (`penstock watch | head`); the interpreter must not flush into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of every command
        code, text = explain(error, arguments[0] if arguments else "")
        note(f"penstock: {text}", style="yellow" if code == INTERRUPTED else "red")
        return code


def explain(error: BaseException, command: str) -> tuple[int, str]:
    """Return the exit code of a command that ended so, and what to say; debugging, a fault of ours is raised."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED, f"interrupted: {GOES_ON.get(command, 'nothing was lost')}"
        case CycloptsError():
            words = " ".join(str(error).split()).rstrip(".")
            return USAGE, f"usage: {words}; see penstock {f'{command} ' if command in GOES_ON else ''}--help"
        case PenstockError():
            return USAGE if isinstance(error, WrongUsage) else FAILED, one_line(error)
        case _ if _is_loud():
            raise error
    return FAILED, f"a fault of its own: {one_line(error)}; PENSTOCK_LOG_LEVEL=DEBUG tells where"


def quiet_libraries() -> None:
    """Keep the libraries' own words off the terminal, unless PENSTOCK_LOG_LEVEL=DEBUG asks for them."""
    logging.disable(logging.NOTSET if _is_loud() else logging.CRITICAL)


def quiet_structlog() -> None:
    """Do the same for our own modules that log, if the command has loaded any.

    It comes after the command's modules, for structlog takes a third of the start of one that logs nothing.
    """
    if _is_loud() or "structlog" in sys.modules:
        from shared import logs  # noqa: PLC0415 - see above

        logs.configure("cli", level="DEBUG" if _is_loud() else "ERROR")


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - for --version alone

    return version("penstock")


def _is_loud() -> bool:
    return os.environ.get("PENSTOCK_LOG_LEVEL") == "DEBUG"
