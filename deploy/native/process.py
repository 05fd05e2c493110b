"""A child process in its own session, with its own log; it ends with the process that started it."""

import atexit
import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import psutil

from deploy.native import ports, private, signals
from shared.errors import PenstockError

TAG: Final = "PENSTOCK_STACK"
"""Set to the state folder in the environment of everything a stack starts: by it orphans are known."""

LOG_LIMIT_BYTES: Final = 10 << 20
TICK_SECONDS: Final = 0.1
LEAVING_SECONDS: Final = 5.0
GRACE_UNREADY: Final = 3.0
"""Grace of a program that is not ready yet; Kafka, stopped while it starts, would take half a minute."""


class NotReady(PenstockError):  # noqa: N818 - a state, not an error
    """The program does not answer yet; the text says what it lacks."""


class Failed(PenstockError):  # noqa: N818 - what happened to the program
    """The program ended or never got ready; the text holds the last lines of its log."""


def _noop() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Program:
    """What to run and how to tell that it is ready; `check` raises NotReady until it is.

    `timeout_seconds` limits the time until it is ready, or until a one-shot ends; `grace` is the time in seconds that
    it has to stop before it is killed.
    `umask` keeps other users out of what it makes.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 20.0
    timeout_seconds: float = 60.0
    umask: int = private.UMASK
    prepare: Callable[[], None] = _noop
    check: Callable[[], None] = _noop


class Running(Protocol):
    """A started program; `subprocess.Popen` is one."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the program runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; raise subprocess.TimeoutExpired after `timeout` seconds."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal unless the program has ended."""


class Process:
    """One run after another of a program."""

    def __init__(self, program: Program, state_dir: Path, *, renew: Callable[[], Program] | None = None) -> None:
        """Take a program; `renew` gives it anew for each run, where its ports may have to be others by then."""
        self.program = program
        self._renew = renew
        self.name = program.name
        self.log = state_dir / "logs" / f"{program.name}.log"
        self.started_at: float | None = None
        self._state_dir = state_dir
        self._popen: Running | None = None
        self._log_start = 0
        self._was_ready = False

    @property
    def pid(self) -> int | None:
        """The process id of the present run, which leads a group of its own."""
        return self._popen.pid if self._popen and self.running else None

    @property
    def running(self) -> bool:
        """Whether the present run has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start a run that ends with this process, however that ends; a running program is left alone.

        Raises:
            ports.Taken: another program holds one of its ports.

        """
        if self.running:
            return
        self._signal_group(signal.SIGKILL)
        if self._renew is not None:
            self.program = self._renew()
        ports.require_free(self.name, self.program.ports)
        self.program.prepare()
        private.make_folder(self.log.parent)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._was_ready = False
        self._popen = _spawner().submit(self.spawn, self.program, self._state_dir, self.log).result()
        self.started_at = time.time()

    @staticmethod
    def spawn(program: Program, state_dir: Path, log: Path) -> Running:
        """Start a program that leads a session of its own, appends to `log`, and stops when its starter ends."""
        with private.open_file(log, "ab") as output:
            return subprocess.Popen(
                [*_leash(program), *program.command],
                env={**program.env, TAG: str(state_dir)},
                cwd=state_dir,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=program.umask,
            )

    def wait_ready(self) -> None:
        """Wait until the program answers.

        Raises:
            Failed: it ended, or is not ready within `timeout_seconds`.

        """
        deadline = time.monotonic() + self.program.timeout_seconds
        while True:
            try:
                return self.check()
            except NotReady as error:
                if time.monotonic() > deadline:
                    raise Failed(f"{self.name} is not ready: {error}\n{self.tail()}") from None
            signals.sleep(TICK_SECONDS)

    def check(self) -> None:
        """Ask once whether the program answers.

        Raises:
            Failed: it has ended.
            NotReady: it does not answer yet.

        """
        if not self.running:
            raise Failed(f"{self.name} ended with exit code {self.exit_code}\n{self.tail()}")
        self.program.check()
        self._was_ready = True

    def wait_done(self, on_wait: Callable[[], None] = _noop, every: float = 15.0) -> None:
        """Wait until a one-shot program succeeds; call `on_wait` every `every` seconds.

        Raises:
            Failed: it failed, or did not end within `timeout_seconds`.

        """
        deadline = time.monotonic() + self.program.timeout_seconds
        notified_at = time.monotonic()
        while self.running and time.monotonic() < deadline:
            signals.sleep(TICK_SECONDS)
            if time.monotonic() - notified_at > every:
                notified_at = time.monotonic()
                on_wait()
        if self.exit_code == 0:
            return
        self.kill()
        raise Failed(f"{self.name} did not succeed (exit code {self.exit_code})\n{self.tail()}")

    @property
    def exit_code(self) -> int | None:
        """How the last run ended; negative for a signal."""
        return self._popen.poll() if self._popen else None

    def stop(self) -> None:
        """Ask the program to end, and kill its group when its grace has passed."""
        self.ask_to_stop()
        self.wait_stopped()

    def ask_to_stop(self) -> None:
        """Send the program its stop signal, frozen or not."""
        if self._popen is not None:
            self._signal_group(signal.SIGCONT)
            self._popen.send_signal(self.program.stop_signal)

    def wait_stopped(self) -> None:
        """Wait for the program to end; kill what is left of its group when its grace has passed."""
        if self._popen is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(self.program.grace if self._was_ready else min(self.program.grace, GRACE_UNREADY))
            self.kill()

    def kill(self) -> None:
        """Kill the program and everything it started."""
        if self._popen is not None:
            self._signal_group(signal.SIGKILL)
            self._popen.wait()
            self._wait_for_ports()

    def _wait_for_ports(self) -> None:
        """Wait a moment for children that outlive their parent: PostgreSQL's are in sessions of their own."""
        deadline = time.monotonic() + LEAVING_SECONDS
        while time.monotonic() < deadline and not all(map(ports.is_free, self.program.ports.values())):
            time.sleep(TICK_SECONDS)

    def pause(self) -> None:
        """Freeze the whole group, as a host that hangs."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen group go on."""
        self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._popen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)

    def text(self) -> str:
        """Return all that the log holds."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 15) -> str:
        """Return the last lines that the present run, or the last one, has logged."""
        if not self.log.exists():
            return ""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().splitlines()[-lines:])

    def rotate_log(self) -> None:
        """Keep the log below its limit: the older part moves to `.log.1`. Lines of that moment may be lost."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            with self.log.open("rb") as log, private.open_file(self.log.with_suffix(".log.1"), "wb") as older:
                shutil.copyfileobj(log, older)
            os.truncate(self.log, 0)
            self._log_start = 0


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    """Return the one thread that starts programs: they die with their thread, so it lives to the end."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="spawner")
    atexit.register(pool.shutdown)
    return pool


def _leash(program: Program) -> list[str]:
    """Return what makes a command get its stop signal when we die, and run as its user."""
    return [
        "setpriv",
        *as_user(program.user),
        "--pdeathsig",
        program.stop_signal.name.removeprefix("SIG"),
        "--",
    ]


def as_user(name: str | None) -> list[str]:
    """Return setpriv's options to become a user; none to stay who we are."""
    if name is None:
        return []
    user = pwd.getpwnam(name)
    return [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def start_ticks(pid: int) -> int | None:
    """Return when a living process started, in clock ticks since boot; with the id it names it for good."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def orphans(state_dir: Path) -> Iterator[psutil.Process]:
    """Yield the processes that an earlier stack of this state folder left behind."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(TAG) == str(state_dir) and process.pid != os.getpid():
                yield process


def clear_orphans(state_dir: Path, grace: float = 20.0) -> list[str]:
    """End what an earlier stack left behind, asking first; return what it was."""
    found = list(orphans(state_dir))
    names = [f"{process.pid} {_name(process)}" for process in found]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.resume()
            process.send_signal(signal.SIGINT if "postgres" in _name(process) else signal.SIGTERM)
    _, alive = psutil.wait_procs(found, timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    return names


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return "(ended)"
