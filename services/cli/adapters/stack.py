"""Processes of the stack: from the native supervisor's state file, checked against /proc, or from docker compose."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from services.cli.settings import CHECKOUT, CliSettings
from shared.errors import Outage, one_line

STATE_FILE = "stack.json"
COMPOSE_SECONDS = 15.0
HEALTHY_STATES = frozenset({"running", "ready", "healthy", "done"})
ONE_SHOT = frozenset({"setup"})
"""Containers that exit after their work; every other exited container is a fault."""
NOTHING_RUNS = "the stack is not running here: start the stack with `make up`"


async def processes(settings: CliSettings) -> list[dict[str, Any]]:
    """Return name, pid, state, restarts and more of each server and service.

    Raises:
        Outage: neither a native stack nor a compose project is running.

    """
    file = settings.state_dir / STATE_FILE
    if await asyncio.to_thread(file.is_file):
        return await asyncio.to_thread(_native, file)
    if shutil.which("docker") and (found := await _compose()):
        return found
    raise Outage(NOTHING_RUNS)


def health_ports(running: list[dict[str, Any]]) -> dict[str, int]:
    """Return the port of each service's probes, where known."""
    ports = {str(one["name"]): one.get("ports") or {} for one in running}
    return {
        name: int(port)
        for name, known in ports.items()
        for purpose, port in known.items()
        if "HEALTH" in purpose.upper()
    }


def _native(file: Path) -> list[dict[str, Any]]:
    try:
        recorded = json.loads(file.read_text())["processes"]
    except (OSError, ValueError, KeyError) as error:
        raise Outage(f"{file} cannot be read: {one_line(error)}; run `make up` to write it again") from error
    return [
        one | {"state": one["state"] if _is_alive(one) else _state_without_process(one["state"])} for one in recorded
    ]


def _state_without_process(state: str) -> str:
    """Return `dead` if the state file says that the process runs, although it does not exist."""
    return "dead" if state in {"running", "starting"} else state


def _is_alive(one: Mapping[str, Any]) -> bool:
    """Whether the recorded process runs; its pid may have been reused by another one."""
    pid = one.get("pid")
    if not isinstance(pid, int) or not psutil.pid_exists(pid):
        return False
    return one.get("start_ticks") in {None, _start_ticks(pid)}


def _start_ticks(pid: int) -> int:
    """Return when a process started, in ticks since boot (proc(5), stat field 22); clock changes do not affect it."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


async def _compose() -> list[dict[str, Any]]:
    """Return the compose containers of this checkout; empty if docker does not answer."""
    command = ("docker", "compose", "--project-directory", str(CHECKOUT), "ps", "--all", "--format", "json")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(COMPOSE_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        return []
    return [_container(json.loads(line)) for line in output.splitlines() if line.startswith(b"{")]


def _container(found: Mapping[str, Any]) -> dict[str, Any]:
    succeeded = found.get("State") == "exited" and found.get("ExitCode") == 0
    done = succeeded and found.get("Service") in ONE_SHOT
    return {
        "name": found.get("Service"),
        "pid": None,
        "state": "done" if done else found.get("Health") or found.get("State"),
        "restarts": None,
        "container": found.get("Name"),
    }
