"""The three servers in containers where Docker answers: the same names, checks and ways to break them.

Containers share the host's network, so ports and addresses are those of the native programs; their data live as long as
they do, over stops and kills. Testcontainers removes them when the tests end, even when those are killed.
"""

import contextlib
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

from deploy.native import ports, private, ready, servers
from deploy.native.install import CHECKOUT
from deploy.native.process import Process, Program
from shared.environment import has_kafka_users
from shared.errors import PenstockError

KAFKA_IMAGE: Final = "apache/kafka:4.1.1"
POSTGRES_IMAGE: Final = "postgres:15-bookworm"
MINIO_IMAGE: Final = "penstock-minio:test"


def answers() -> bool:
    """Whether a Docker daemon is there."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20).returncode == 0
    return False


@dataclass(frozen=True, slots=True)
class Box:
    """An image and how to run it."""

    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]


class Container(Process):
    """A server in a container, driven like a process."""

    def __init__(self, program: Program, box: Box, state_dir: Path) -> None:
        super().__init__(program, state_dir)
        made = DockerContainer(box.image).with_envs(**box.env).with_kwargs(network_mode="host")
        self._made = made.with_command(list(box.command)) if box.command else made
        self._born = False

    @property
    def _docker(self) -> Any:
        found = self._made.get_wrapped_container()
        found.reload()
        return found

    @property
    def pid(self) -> int | None:
        """The process id that the container's first process has on the host."""
        return self._docker.attrs["State"]["Pid"] if self.running else None

    @property
    def running(self) -> bool:
        """Whether the container runs, frozen or not."""
        return self._born and self._docker.status in {"running", "paused"}

    def start(self) -> None:
        """Start the container, with the data it had."""
        if self.running:
            return
        ports.require_free(self.name, self.program.ports)
        if self._born:
            self._docker.start()
        else:
            self._made.start()
            self._born = True
        self.started_at = time.time()

    def stop(self) -> None:
        """Ask the server to end; it is killed when its grace has passed."""
        if self.running:
            self.resume()
            self._docker.kill(signal=self.program.stop_signal.name)
            with contextlib.suppress(Exception):  # the client's own time-out, of a type that depends on its version
                self._docker.wait(timeout=self.program.grace)
            self.kill()

    def ask_to_stop(self) -> None:
        """Leave it to `wait_stopped`: containers stop one by one."""

    def wait_stopped(self) -> None:
        """Stop the server and remove its container."""
        self.stop()
        if self._born:
            self._made.stop()
            self._born = False

    def kill(self) -> None:
        """Kill the server without a warning."""
        if self.running:
            self._docker.kill()
            self._docker.wait()

    def pause(self) -> None:
        """Freeze the server."""
        self._docker.pause()

    def resume(self) -> None:
        """Let a frozen server go on."""
        if self._docker.status == "paused":
            self._docker.unpause()

    @property
    def exit_code(self) -> int | None:
        """How the last run ended."""
        return self._docker.attrs["State"]["ExitCode"] if self._born and not self.running else None

    def text(self) -> str:
        """Return all that the server has logged."""
        return "\n".join(part.decode(errors="replace") for part in self._made.get_logs()) if self._born else ""

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.text().splitlines()[-lines:])


def processes(env: Mapping[str, str]) -> list[Process]:
    """Return the three servers for resolved variables `env`; builds MinIO's image at first use."""
    DockerImage(path=CHECKOUT / "deploy" / "minio", tag=MINIO_IMAGE, clean_up=False).build()
    state_dir = Path(env["PENSTOCK_STATE_DIR"])
    private.close_state_folder(state_dir)
    return [_kafka(env, state_dir), _minio(env, state_dir), _postgres(env, state_dir)]


def _kafka(env: Mapping[str, str], state_dir: Path) -> Process:
    port, controller = int(env["PENSTOCK_KAFKA_PORT"]), int(env["PENSTOCK_KAFKA_CONTROLLER_PORT"])
    if has_kafka_users(env):
        raise PenstockError("PENSTOCK_KAFKA_AUTH=scram: Kafka has users in the native and the compose stack alone")
    settings = servers.kafka_settings(env, "/var/lib/kafka/data")
    lines = [line.split("=", 1) for line in settings.splitlines() if line and not line.startswith("#")]
    box = Box(KAFKA_IMAGE, (), {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in lines})
    used = {"PENSTOCK_KAFKA_PORT": port, "PENSTOCK_KAFKA_CONTROLLER_PORT": controller}
    program = Program("kafka", (), {}, ports=used, grace=30, timeout_seconds=180, check=partial(ready.kafka, env))
    return Container(program, box, state_dir)


def _minio(env: Mapping[str, str], state_dir: Path) -> Process:
    port, console = int(env["PENSTOCK_S3_PORT"]), int(env["PENSTOCK_S3_CONSOLE_PORT"])
    command = (
        "server",
        "/data/objects",
        "--address",
        f"{ports.HOST}:{port}",
        "--console-address",
        f"{ports.HOST}:{console}",
    )
    box = Box(MINIO_IMAGE, command, servers.minio_env(env, queue_dir=Path("/data/queue")))
    used = {"PENSTOCK_S3_PORT": port, "PENSTOCK_S3_CONSOLE_PORT": console}
    return Container(Program("minio", (), {}, ports=used, check=partial(ready.minio, port)), box, state_dir)


def _postgres(env: Mapping[str, str], state_dir: Path) -> Process:
    port, parts = int(env["PENSTOCK_POSTGRES_PORT"]), urlsplit(env["PENSTOCK_POSTGRES_DSN"])
    login = {"POSTGRES_USER": unquote(parts.username or ""), "POSTGRES_PASSWORD": unquote(parts.password or "")}
    command = ("-c", f"port={port}", "-c", f"listen_addresses={ports.HOST}")
    box = Box(POSTGRES_IMAGE, command, {**login, "POSTGRES_DB": parts.path.strip("/")})
    check = partial(ready.postgres, env["PENSTOCK_POSTGRES_DSN"])
    return Container(
        Program("postgres", (), {}, ports={"PENSTOCK_POSTGRES_PORT": port}, check=check, timeout_seconds=180),
        box,
        state_dir,
    )
