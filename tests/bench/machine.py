"""The machine, described, and the programs that only the bench needs."""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from deploy.native.install import CHECKOUT, MINIO_VERSION, Tools
from shared.errors import PenstockError

PACKAGES = {"redis-server": "redis-server", "rclone": "rclone"}
"""Debian's package by program."""
LIBRARIES = (
    "faststream",
    "aiokafka",
    "aiohttp",
    "asyncpg",
    "uvloop",
    "polars",
    "psycopg",
    "celery",
    "redis",
    "boto3",
    "obstore",
)


def require_programs() -> None:
    """Install what is missing by apt as root on Debian, else name the command."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PenstockError(f"the bench needs {' and '.join(missing)}: sudo apt-get install {' '.join(missing)}")
    # run level 1: Debian starts no server of its own
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run([*apt, "update"], env=env, check=True)
    subprocess.run([*apt, "install", "--no-install-recommends", *missing], env=env, check=True)


def describe(tools: Tools) -> dict[str, str]:
    """Say what the figures were measured on."""
    libraries = (f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return {
        "processor": f"{os.cpu_count()} cores, {_field('/proc/cpuinfo', 'model name') or platform.machine()}",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "servers": ", ".join(
            (
                tools.kafka_jars.name.replace("-", " "),
                f"MinIO {MINIO_VERSION}",
                _first_line(str(tools.postgres / "postgres"), "--version"),
                re.sub(r" sha=.*", "", _first_line("redis-server", "--version")),
                _first_line("rclone", "version"),
            )
        ),
        "libraries": f"Python {platform.python_version()}, {', '.join(libraries)}",
    }


def commit() -> str:
    """Name the measured tree; a `+` says that it held changes beyond the commit."""
    command = ("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty=+")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "no commit"


def load() -> float:
    """Return how many processes ran or waited for a core in the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def _field(path: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.+)$", Path(path).read_text(), re.MULTILINE)
    return found[1] if found else ""


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0].strip()
