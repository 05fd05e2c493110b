"""Start Python programs of a stack by forking a process that has already imported the shared libraries.

Imports are most of the CPU time of a start: 1.6 of 2 seconds. The programs are processes of their own as ever, in their
own session, killed and frozen by their process group; they end when the test run does. What is measured or compared in
terms of memory is the same: each service imports its own libraries after the fork.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from deploy.native import private
from deploy.native.process import TAG, Process, Program, Running

PRELOAD: Final = ("shared.service", "shared.storage", "shared.work", "shared.postgres", "shared.tracing")
START_SECONDS: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(PRELOAD))
_spawn = Process.spawn


class Forked:
    """A started program, with what `deploy.native.process` uses of `subprocess.Popen`."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the program runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; raise subprocess.TimeoutExpired after `timeout` seconds."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


@dataclass(frozen=True, slots=True)
class _Start:
    arguments: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    log: Path
    umask: int
    stop_signal: int


def fork(program: Program, state_dir: Path, log: Path) -> Running:
    """Start `python -m MODULE ...` by a fork, and any other program as `Process.spawn` does."""
    if program.command[:2] != (sys.executable, "-m") or program.user is not None:
        return _spawn(program, state_dir, log)
    private.open_file(log, "ab").close()
    env = {**program.env, TAG: str(state_dir)}
    start = _Start(program.command[2:], env, state_dir, log, program.umask, program.stop_signal)
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(target=_run, args=(start, sender), name=program.name)
    process.start()
    sender.close()
    if not receiver.poll(START_SECONDS):
        raise AssertionError(f"{program.name} was not forked within {START_SECONDS:.0f} s")
    receiver.recv()  # it leads its group now, so it can be killed
    receiver.close()
    return Forked(process)


def _run(start: _Start, started: Connection) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, start.stop_signal)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log, nothing = os.open(start.log, os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    os.chdir(start.folder)
    os.umask(start.umask)
    os.environ.clear()
    os.environ.update(start.env)
    started.send(None)
    started.close()
    module, *rest = start.arguments
    sys.argv = [module, *rest]
    # multiprocessing has closed the one, and the other writes in blocks
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    runpy.run_module(module, run_name="__main__", alter_sys=True)
