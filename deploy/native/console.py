"""The commands of the native stack: up, down, status, logs, run, install, clean."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from deploy.native import dotenv, private, record, services, signals, web
from deploy.native.install import CHECKOUT, Installer
from deploy.native.postgres_home import delete_data
from deploy.native.process import clear_orphans, start_ticks
from deploy.native.supervisor import READY, Supervisor, say, urls
from shared.environment import PREFIX, read_file
from shared.errors import PenstockError
from shared.former_names import used_in, warning_of

Env = Mapping[str, str]
DOWN_SECONDS: Final = 120.0
LOG = "logs/supervisor.log"


def up(env: Env, _words: list[str]) -> int:
    """Start the stack, print progress, and return when every process is ready."""
    state_dir = Path(env["PENSTOCK_STATE_DIR"])
    if (pid := record.holder(state_dir)) is not None:
        return _follow(env, pid, state_dir, offset=None)  # Ctrl-C here does not stop it: another command started it
    private.close_state_folder(state_dir)
    log = state_dir / LOG
    private.make_folder(log.parent)
    offset = log.stat().st_size if log.exists() else 0
    started = _start_supervisor(state_dir, log)
    try:
        return _follow(env, started.pid, state_dir, offset)
    except signals.Stopped:
        say("interrupted; taking down what was started")
        started.terminate()
        started.wait()
        clear_orphans(state_dir)
        return 130


def _start_supervisor(state_dir: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the supervisor in a session of its own."""
    with private.open_file(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.native", "run", "--state-dir", str(state_dir)],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _follow(env: Env, pid: int, state_dir: Path, offset: int | None) -> int:
    """Print the supervisor's lines until the stack is up or the supervisor has ended."""
    log = state_dir / LOG
    offset = log.stat().st_size if offset is None else offset
    born = start_ticks(pid)
    while True:
        now = record.read(state_dir)
        ended = start_ticks(pid) != born
        offset = _print_from(log, offset)
        if ended:
            return 1
        if now["state"] == READY and now["supervisor"]["pid"] == pid:
            return _print_addresses(env, now)
        signals.sleep(0.1)


def _print_from(log: Path, offset: int) -> int:
    with log.open("rb") as file:
        file.seek(offset)
        text = file.read()
    sys.stdout.write(text.decode(errors="replace"))
    sys.stdout.flush()
    return offset + len(text)


def _print_addresses(env: Env, now: Mapping[str, Any]) -> int:
    """Print the addresses; return exit code 1 if a process is not running."""
    unready = [one["name"] for one in now["processes"] if one["state"] != "running"]
    for name, url in now["urls"].items():
        say(f"  {name:<9}{url}")
    say(f"  {'web':<9}{web.entrance(env)}")
    if now["urls"] != urls(env):
        say("the stack runs with other ports than those asked for; `make down` first to move it")
    if unready:
        say(f"not ready: {', '.join(unready)}; see `make logs`")
    return 1 if unready else 0


def down(env: Env, _words: list[str]) -> int:
    """Stop the stack, services before servers; no process of it remains."""
    state_dir = Path(env["PENSTOCK_STATE_DIR"])
    if (pid := record.holder(state_dir)) is not None:
        born, deadline = start_ticks(pid), time.monotonic() + DOWN_SECONDS
        os.kill(pid, signal.SIGTERM)
        while start_ticks(pid) == born and time.monotonic() < deadline:
            signals.sleep(0.1)
        if start_ticks(pid) == born:
            os.kill(pid, signal.SIGKILL)
    clear_orphans(state_dir)
    say("down")
    return 0


def status(env: Env, _words: list[str]) -> int:
    """Print every process; the exit code is 0 when the stack is up and all of it runs."""
    now = record.read(Path(env["PENSTOCK_STATE_DIR"]))
    say(f"stack: {now['state']}")
    for one in now["processes"]:
        ports = " ".join(str(port) for port in one["ports"].values())
        about = f"pid {one['pid'] or '-':<8} restarts {one['restarts']:<4}port {ports}"
        say(f"  {one['name']:<12}{one['state']:<10}{about}")
    well = now["state"] == READY and all(one["state"] == "running" for one in now["processes"])
    return 0 if well else 1


def logs(env: Env, words: list[str]) -> int:
    """Print the last lines of all logs, or of the named ones; `-f` follows them."""
    folder = Path(env["PENSTOCK_STATE_DIR"]) / "logs"
    names = [word for word in words if word != "-f"]
    files = [folder / f"{name}.log" for name in names] or sorted(folder.glob("*.log"))
    if files:
        os.execvp("tail", ["tail", "-n", "40", *(["-F"] if "-f" in words else []), *map(str, files)])  # noqa: S606
    say(f"no logs in {folder}")
    return 1


def run(env: Env, _words: list[str]) -> int:
    """Run the supervisor in the foreground until Ctrl-C."""
    return Supervisor(env).run()


def install(env: Env, _words: list[str]) -> int:
    """Fetch the servers without starting them."""
    state_dir = Path(env["PENSTOCK_STATE_DIR"])
    private.close_state_folder(state_dir)
    Installer(state_dir, say).install()
    return 0


def clean(env: Env, words: list[str]) -> int:
    """Stop the stack and delete its data and logs; `.env` and fetched programs stay."""
    down(env, words)
    delete_data(Path(env["PENSTOCK_STATE_DIR"]))
    return 0


COMMANDS: Final[dict[str, Callable[[Env, list[str]], int]]] = {
    command.__name__: command for command in (up, down, status, logs, run, install, clean)
}


def main() -> int:
    """Run one command and return its exit code, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m deploy.native", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--state-dir", type=Path, help="where data and logs are (PENSTOCK_STATE_DIR)")
    given, words = parser.parse_known_args()
    os.umask(private.UMASK)
    env = dotenv.ensure(CHECKOUT, os.environ, services.secrets())
    for former, name in used_in({**read_file(CHECKOUT), **os.environ}).items():
        say(warning_of(former, name))
    if given.state_dir:
        env[f"{PREFIX}STATE_DIR"] = str(given.state_dir.resolve())
    try:
        signals.listen()
        return COMMANDS[given.command](env, words)
    except PenstockError as error:
        say(f"{given.command}: {error}")
        return 1
    except signals.Stopped:
        return 130
