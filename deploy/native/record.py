"""The state of a stack in `<state>/stack.json`, replaced in one step, and the lock of its supervisor."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.native import private
from deploy.native.process import start_ticks

FILE = "stack.json"
LOCK = "supervisor.lock"


def write(state_dir: Path, record: Mapping[str, Any]) -> None:
    """Replace the record; a reader sees the old one or the new one."""
    descriptor, path = tempfile.mkstemp(dir=state_dir, prefix=FILE)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file, indent=1)
    Path(path).replace(state_dir / FILE)


def read(state_dir: Path) -> dict[str, Any]:
    """Return the record; mark processes that no longer run as gone, however the supervisor ended."""
    try:
        record: dict[str, Any] = json.loads((state_dir / FILE).read_text())
    except (OSError, ValueError):
        return {"state": "down", "processes": []}
    if not is_held(state_dir):
        record["state"] = "down"
    for process in record["processes"]:
        if process["pid"] is not None and start_ticks(process["pid"]) != process["start_ticks"]:
            process.update(pid=None, state="gone")
    return record


@contextmanager
def held(state_dir: Path) -> Iterator[bool]:
    """Hold the lock of a state folder inside the block; yield False if another supervisor holds it.

    The kernel releases it when the process ends, so it is never stale.
    """
    with private.open_file(state_dir / LOCK, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield True


def is_held(state_dir: Path) -> bool:
    """Return whether a supervisor runs for this state folder."""
    return holder(state_dir) is not None


def holder(state_dir: Path) -> int | None:
    """Return the process id of the supervisor of a state folder."""
    try:
        with (state_dir / LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
            return None
    except FileNotFoundError:
        return None
