"""Starts a stack in order, restarts what ends, and stops it; one supervisor per state folder."""

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.native import private, record, services, signals
from deploy.native.install import Installer
from deploy.native.process import Failed, NotReady, Process, clear_orphans, start_ticks
from deploy.native.stack import Stack
from shared.errors import PenstockError

WATCH_SECONDS: Final = 0.3
BACKOFF_FIRST_SECONDS: Final = 0.5
BACKOFF_CAP_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A program that ran this long is restarted without backoff."""
READY, FAILED, STOPPED = "ready", "failed", "stopped"


@dataclass(slots=True)
class Watch:
    """The state of one supervised process."""

    process: Process
    state: str = "starting"
    restarts: int = 0
    failures: int = 0
    retry_at: float = 0.0

    def report(self) -> dict[str, Any]:
        """Return its entry in `stack.json`."""
        pid = self.process.pid
        return {
            "name": self.process.name,
            "pid": pid,
            "state": self.state,
            "restarts": self.restarts,
            "started_at": self.process.started_at,
            "start_ticks": start_ticks(pid) if pid else None,
            "ports": {
                name.removeprefix("PENSTOCK_").lower(): port for name, port in self.process.program.ports.items()
            },
            "log": str(self.process.log),
        }


class Supervisor:
    """Runs in the foreground until SIGTERM or SIGINT; prints what happens, one line each."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.state_dir = Path(env["PENSTOCK_STATE_DIR"])
        self._state = "starting"
        self._watches: dict[str, Watch] = {}
        self._written: dict[str, Any] = {}
        self._started = time.monotonic()

    def run(self) -> int:
        """Start the stack and keep it running; return the exit code after it has stopped."""
        private.close_state_folder(self.state_dir)
        with record.held(self.state_dir) as alone:
            if not alone:
                say("another supervisor runs this stack")
                return 1
            return self._run()

    def _run(self) -> int:
        stack: Stack | None = None
        try:
            self._write()
            for orphan in clear_orphans(self.state_dir):
                say(f"ended what an earlier stack had left: process {orphan}")
            stack = Stack.native(self.env, Installer(self.state_dir, say).install())
            self._bring_up(stack)
            while True:
                self._check_all()
                signals.sleep(WATCH_SECONDS)
        except signals.Stopped:
            self._state = STOPPED
        except PenstockError as error:
            self._state = FAILED
            say(f"failed: {error}")
        finally:
            say("stopping")
            if stack is not None:
                stack.stop_all()
            clear_orphans(self.state_dir)
            for watch in self._watches.values():
                watch.state = STOPPED
            self._write()
            say(self._state)
        return 1 if self._state == FAILED else 0

    def _bring_up(self, stack: Stack) -> None:
        self._watch(stack)
        stack.start_servers(on_ready=self._note_ready)
        say(f"setup after {self._seconds():.1f} s: {stack.setup() or 'nothing to change'}")
        for name, number in services.processes(self.env):
            stack.start_service(name, number, wait=False)
            self._watch(stack)
        self._wait_for_services()
        self._state = READY
        self._write()
        unready = [name for name, watch in self._watches.items() if watch.state != "running"]
        say(f"up in {self._seconds():.1f} s" + (f", but not {', '.join(unready)}" if unready else ""))

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _watch(self, stack: Stack) -> None:
        for name, process in stack.processes.items():
            self._watches.setdefault(name, Watch(process))
        self._write()

    def _note_ready(self, name: str) -> None:
        self._watches[name].state = "running"
        self._write()
        say(f"{name}: ready after {self._seconds():.1f} s")

    def _wait_for_services(self) -> None:
        """Wait until every service is ready, or the longest `timeout_seconds`; late ones are still retried."""
        deadline = time.monotonic() + max(watch.process.program.timeout_seconds for watch in self._watches.values())
        while any(watch.state != "running" for watch in self._watches.values()) and time.monotonic() < deadline:
            self._check_all()
            signals.sleep(WATCH_SECONDS)

    def _check_all(self) -> None:
        """Check every process once: restart those that ended, note those that are ready, rotate logs."""
        for watch in self._watches.values():
            if watch.process.running:
                self._check(watch)
            elif watch.state == "waiting":
                self._retry(watch)
            else:
                self._note_exit(watch)
            watch.process.rotate_log()
        self._write()

    def _check(self, watch: Watch) -> None:
        if watch.state == "running":
            if watch.failures and time.time() - (watch.process.started_at or 0) > STEADY_SECONDS:
                watch.failures = 0
            return
        with contextlib.suppress(NotReady, Failed):
            watch.process.check()
            self._note_ready(watch.process.name)

    def _note_exit(self, watch: Watch) -> None:
        wait = min(BACKOFF_FIRST_SECONDS * 2**watch.failures, BACKOFF_CAP_SECONDS)
        watch.state, watch.retry_at = "waiting", time.monotonic() + wait
        watch.failures += 1
        name, code = watch.process.name, watch.process.exit_code
        say(f"{name}: ended with exit code {code}, starts again in {wait:g} s; see {watch.process.log}")

    def _retry(self, watch: Watch) -> None:
        if time.monotonic() < watch.retry_at:
            return
        watch.restarts += 1
        watch.state = "starting"
        try:
            watch.process.start()
        except PenstockError as error:
            say(f"{watch.process.name}: {error}")

    def _write(self) -> None:
        """Write `stack.json` if the state has changed."""
        now = {
            "state": self._state,
            "supervisor": {"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())},
            "urls": urls(self.env),
            "processes": [watch.report() for watch in self._watches.values()],
        }
        if now != self._written:
            record.write(self.state_dir, now)
            self._written = now


def urls(env: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of the stack, without secrets."""
    console = f"http://127.0.0.1:{env['PENSTOCK_S3_CONSOLE_PORT']}"
    return {
        "HTTP": env["PENSTOCK_HTTP_URL"],
        "S3": env["PENSTOCK_S3_ENDPOINT"],
        "console": console,
        "Kafka": env["PENSTOCK_KAFKA_BOOTSTRAP"],
        "Postgres": f"127.0.0.1:{env['PENSTOCK_POSTGRES_PORT']}",
    }


def say(line: str) -> None:
    """Print one line of progress at once."""
    print(line, flush=True)
