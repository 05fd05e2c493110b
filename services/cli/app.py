"""The console's only wiring: which commands there are, and how each may end."""

import logging
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from cyclopts import App, CycloptsError, Parameter
from cyclopts.help import DefaultFormatter

from services.cli.core.usage import WrongUsage
from services.cli.terminal import note, page
from shared import logs
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
}
DEAD_LETTERS: Final = {
    "list": "List what waits, grouped by cause.",
    "show": "Show one dead letter: headers and body.",
    "replay": "Send dead letters back to where they came from.",
    "discard": "Settle dead letters without sending them anywhere.",
}
GOES_ON: Final = {
    "put": "what was stored stays; give the same command again to go on where it stopped",
    "digest": "the digest is made without it",
    "watch": "the services work on; facts stay on their topics for days",
    "status": "nothing was changed",
    "doctor": "a probe object may remain under inbox/.penstock/; the next check removes it",
    "sweep": "the sweep goes on in ingest; its result will be in penstock status",
    "dlq": "what was settled so far stays settled; the rest waits",
    "setup": "every step can be repeated; give the same command again",
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
        result_action="return_int_as_exit_code_else_zero",
        default_parameter=Parameter(negative_bool=(), negative_iterable=(), show_default=False),
        version=lambda: version("penstock"),
    )
    for name, line in COMMANDS.items():
        module = f"services.cli.commands.{name}:{name}"
        app.command(module, name=name, help=None if name in asked else line)
    dead_letters = App(name="dlq", help="List, show, replay or discard dead letters.")
    for name, line in DEAD_LETTERS.items():
        module = f"services.cli.commands.dlq_{name}:{name}_letters"
        dead_letters.command(module, name=name, help=None if name in asked else line)
    app.command(dead_letters)
    app.register_install_completion_command(help="Install shell completion for bash, zsh or fish.")
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; trouble becomes one line: what, why and how to mend it."""
    quiet_libraries()
    try:
        app = build_app(arguments)
        return int(app(list(arguments), exit_on_error=False, print_error=False, console=page()) or DONE)
    except CycloptsError as error:
        words = " ".join(str(error).split()).rstrip(".")
        return _say_so(f"usage: {words}; see penstock {_command(arguments)}--help", USAGE)
    except WrongUsage as error:
        return _say_so(one_line(error), USAGE)
    except PenstockError as error:
        return _say_so(one_line(error), FAILED)
    except KeyboardInterrupt:
        return _say_so(
            f"interrupted: {GOES_ON.get(arguments[0] if arguments else '', 'nothing was lost')}", INTERRUPTED
        )
    except BrokenPipeError:
        # Our reader has gone (`penstock watch | head`); the interpreter must not flush into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE


def quiet_libraries() -> None:
    """Keep the libraries' own words off the terminal, unless PENSTOCK_LOG_LEVEL=DEBUG asks for them."""
    loud = os.environ.get("PENSTOCK_LOG_LEVEL") == "DEBUG"
    logs.configure("cli", level="DEBUG" if loud else "ERROR")
    logging.disable(logging.NOTSET if loud else logging.CRITICAL)


def _command(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in GOES_ON else ""


def _say_so(text: str, code: int) -> int:
    note(f"penstock: {text}", style="red" if code in {FAILED, USAGE} else "yellow")
    return code
