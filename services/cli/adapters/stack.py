"""What runs: told by the native supervisor's file and checked against the machine, or by docker compose."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from services.cli.settings import CHECKOUT, CliSettings
from shared.errors import Outage, one_line

FILE = "stack.json"
COMPOSE_SECONDS = 15.0
WELL = frozenset({"running", "ready", "healthy", "done"})
MADE_TO_END = frozenset({"setup"})
"""Containers that do their work once; every other one that ended is missing."""
NOTHING_RUNS = "nothing runs here: start the stack with `make up`"


async def processes(settings: CliSettings) -> list[dict[str, Any]]:
    """Return name, pid, state, restarts and what else is known of each server and service.

    Raises:
        Outage: neither a native stack nor a compose project is up.

    """
    file = settings.state_dir / FILE
    if await asyncio.to_thread(file.is_file):
        return await asyncio.to_thread(_native, file)
    if shutil.which("docker") and (found := await _compose()):
        return found
    raise Outage(NOTHING_RUNS)


def health_ports(running: list[dict[str, Any]]) -> dict[str, int]:
    """Return the port of each service's probes, as far as it is known."""
    ports = {str(one["name"]): one.get("ports") or {} for one in running}
    return {
        name: int(port) for name, known in ports.items() for what, port in known.items() if "HEALTH" in what.upper()
    }


def _native(file: Path) -> list[dict[str, Any]]:
    try:
        noted = json.loads(file.read_text())["processes"]
    except (OSError, ValueError, KeyError) as error:
        raise Outage(f"{file} cannot be read: {one_line(error)}; `make up` writes it anew") from error
    return [one | {"state": one["state"] if _is_alive(one) else _ended(one["state"])} for one in noted]


def _ended(state: str) -> str:
    """A process that the file believes in, but the machine does not have, is dead."""
    return "dead" if state in {"running", "starting"} else state


def _is_alive(one: Mapping[str, Any]) -> bool:
    """Whether that very process runs: by now, its number may belong to another one."""
    pid = one.get("pid")
    if not isinstance(pid, int) or not psutil.pid_exists(pid):
        return False
    return one.get("start_ticks") in {None, _start_ticks(pid)}


def _start_ticks(pid: int) -> int:
    """Return when a process started, in ticks since boot (proc(5), stat field 22); no clock can move it."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


async def _compose() -> list[dict[str, Any]]:
    """Return what docker compose runs of this checkout; nothing when it does not answer."""
    command = ("docker", "compose", "--project-directory", str(CHECKOUT), "ps", "--all", "--format", "json")
    pipe = asyncio.subprocess.PIPE
    asked = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(COMPOSE_SECONDS):
            output, _ = await asked.communicate()
    except TimeoutError:
        asked.kill()
        return []
    return [_container(json.loads(line)) for line in output.splitlines() if line.startswith(b"{")]


def _container(found: Mapping[str, Any]) -> dict[str, Any]:
    ended_well = found.get("State") == "exited" and found.get("ExitCode") == 0
    done = ended_well and found.get("Service") in MADE_TO_END
    return {
        "name": found.get("Service"),
        "pid": None,
        "state": "done" if done else found.get("Health") or found.get("State"),
        "restarts": None,
        "container": found.get("Name"),
    }
