"""The servers and services of one stack; start, stop, pause or kill each by its name.

The supervisor and the tests use the same class, so tests break what runs in production.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from deploy.native import ports, ready, servers, services
from deploy.native.install import Tools
from deploy.native.process import Process, Program, clear_orphans
from services import catalogue
from shared.environment import KAFKA_PASSWORD, by_service
from shared.errors import PenstockError
from shared.provision.kafka_users import ensure_kafka_users
from shared.provision.topics import ensure_topics
from shared.settings import Settings
from shared.topics import STORE_TOPICS


def _noop(_name: str) -> None:
    return None


class Stack:
    """All processes of one state folder; `env` holds its resolved PENSTOCK_* variables."""

    def __init__(self, env: Mapping[str, str], processes: Iterable[Process]) -> None:
        self.env = dict(env)
        self.state_dir = Path(env["PENSTOCK_STATE_DIR"])
        self.processes = {process.name: process for process in processes}
        self._health_ports: dict[str, int] = {}

    @classmethod
    def native(cls, env: Mapping[str, str], tools: Tools) -> Self:
        """Return a stack whose servers are processes of this machine."""
        programs = servers.programs(env, tools).values()
        return cls(env, [Process(program, Path(env["PENSTOCK_STATE_DIR"])) for program in programs])

    def start(self, name: str) -> None:
        """Start one program and wait until it answers."""
        process = self._process(name)
        process.start()
        process.wait_ready()

    def start_servers(self, on_ready: Callable[[str], None] = _noop) -> None:
        """Start Postgres, Kafka and MinIO, and wait until all answer; create MinIO's topics before it starts."""
        self._process("postgres").start()
        self.start("kafka")
        on_ready("kafka")
        ready.run_in_thread(self._prepare_kafka())
        for name in ("minio", "postgres"):
            self.start(name)
            on_ready(name)

    async def _prepare_kafka(self) -> None:
        """Create what MinIO needs when it starts: its topics and its Kafka user."""
        operator = Settings.of(self.env)
        await ensure_topics(operator, STORE_TOPICS)
        passwords = by_service(self.env, KAFKA_PASSWORD)
        users = {name: SecretStr(text) for name, text in passwords.items()}
        await ensure_kafka_users(operator, catalogue.manifests(), users)

    def setup(self) -> str:
        """Run set-up; return its output."""
        process = Process(services.setup(self.env), self.state_dir)
        process.start()
        process.wait_done()
        return process.tail()

    def start_service(
        self, service: str, instance: int = 1, env: Mapping[str, str] | None = None, *, wait: bool = True
    ) -> str:
        """Restart one process of a service with its variables overridden by `env`; return its name."""
        name = services.process_name(service, instance)
        if name in self.processes:
            self.stop(name)

        def program() -> Program:
            # at each start, because another stack may have taken the port
            program = services.service(self.env, service, instance, self._health_port(name))
            return replace(program, env={**program.env, **(env or {})})

        process = Process(program(), self.state_dir, renew=program)
        self.processes[name] = process
        process.start()
        if wait:
            process.wait_ready()
        return name

    def stop(self, name: str) -> None:
        """Stop one program; kill it after its grace time."""
        self._process(name).stop()

    def kill(self, name: str) -> None:
        """Kill one program and its child processes at once."""
        self._process(name).kill()

    def pause(self, name: str) -> None:
        """Pause one program (SIGSTOP)."""
        self._process(name).pause()

    def resume(self, name: str) -> None:
        """Resume a paused program (SIGCONT)."""
        self._process(name).resume()

    def restart(self, name: str) -> None:
        """Stop and start one program, and wait until it answers."""
        self.stop(name)
        self.start(name)

    def logs(self, name: str) -> str:
        """Return everything one program has logged."""
        return self._process(name).text()

    def pid(self, name: str) -> int | None:
        """Return the process id of one program while it runs."""
        return self._process(name).pid

    def stop_all(self) -> None:
        """Stop services, then servers; no process of this stack remains."""
        own = [name for name in self.processes if name not in servers.NAMES]
        for together in (own, ["minio"], ["kafka"], ["postgres"]):
            for name in together:
                self._process(name).ask_to_stop()
            for name in together:
                self._process(name).wait_stopped()
        clear_orphans(self.state_dir)

    def _process(self, name: str) -> Process:
        if name not in self.processes:
            raise PenstockError(f"no process {name!r} in this stack: use one of {', '.join(self.processes)}")
        return self.processes[name]

    def _health_port(self, name: str) -> int:
        """Return the earlier health port of a process if it is free, else the first free one from the base."""
        had = self._health_ports.get(name)
        if had is not None and ports.is_free(had):
            return had
        base = int(self.env["PENSTOCK_HEALTH_PORT_BASE"])
        given = set(self._health_ports.values())
        port = next(port for port in range(base, base + 1000) if port not in given and ports.is_free(port))
        self._health_ports[name] = port
        return port
