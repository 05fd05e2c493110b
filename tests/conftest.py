"""Real servers for the tests that need them: one Kafka, one MinIO and one Postgres for the whole run.

`servers` is a `deploy.native.stack.Stack`, the class that `make up` runs, on free ports in a folder of its own; where
Docker answers its servers are containers (testcontainers), unless PENSTOCK_NATIVE is set:

    servers.env                               every PENSTOCK_* variable, with the operator's credentials
    servers.setup()                           topics, buckets, rules and S3 users (`penstock setup`)
    servers.start/stop/restart("kafka")       and "minio", "postgres", a service; returns when it answers
    servers.kill/pause/resume("minio")        SIGKILL, SIGSTOP, SIGCONT of the whole group
    servers.start_service("hasher", instance=2, env={"PENSTOCK_X": "y"}) -> "hasher-2", with its own S3 user
    servers.logs("kafka"), servers.pid("hasher-2"), servers.state_dir

All methods block; in async tests call them plainly or by `asyncio.to_thread`. Everything dies with the test run,
even when that is killed. `stack` is the same after `setup()`. PENSTOCK_KEEP_STATE=1 leaves the folder behind.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from deploy.native import container, dotenv, ports, services
from deploy.native.install import CHECKOUT, Installer
from deploy.native.postgres_home import delete_data
from deploy.native.process import Process
from deploy.native.stack import Stack
from tests.support import forked

# a run in the background inherits that Ctrl-C is ignored, and so would every program that a test interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Start services by a fork; let each worker pick ports of a share of its own, as servers that start hold none."""
    Process.spawn = staticmethod(forked.fork)
    if worker := getattr(config, "workerinput", None):
        number = int(worker["workerid"].removeprefix("gw"))
        ports.PICK_FROM = ports.PICK_FROM[number :: worker["workercount"]]


def moved(state_dir: Path) -> dict[str, str]:
    """Return the variables that put a stack beside every other."""
    names = ("S3", "S3_CONSOLE", "KAFKA", "KAFKA_CONTROLLER", "POSTGRES", "HTTP")
    free = dict(zip(names, ports.pick(len(names)), strict=True))
    return {
        "PENSTOCK_STATE_DIR": str(state_dir),
        "PENSTOCK_HEALTH_PORT_BASE": str(ports.pick(1)[0]),
        "PENSTOCK_ETL_SEED": "off",  # a test puts its own objects
        **{f"PENSTOCK_{name}_PORT": str(port) for name, port in free.items()},
    }


@pytest.fixture(scope="session")
def servers() -> Iterator[Stack]:
    state = Path(tempfile.mkdtemp(prefix="penstock-test-"))
    env = dotenv.fresh(CHECKOUT, moved(state), services.secrets())
    if container.answers() and not os.environ.get("PENSTOCK_NATIVE"):
        stack = Stack(env, container.processes(env))
    else:
        stack = Stack.native(env, Installer(state, print).install())
    try:
        stack.start_servers()
        yield stack
    finally:
        stack.stop_all()
        if not os.environ.get("PENSTOCK_KEEP_STATE"):
            delete_data(state)


@pytest.fixture(scope="session")
def stack(servers: Stack) -> Stack:
    servers.setup()
    return servers


class ByTier(LoadScopeScheduling):
    """Keeps the tests of a tier on real servers in one worker, in their order, on one stack; else those of a file."""

    def _split_scope(self, nodeid: str) -> str:
        tier = Path(nodeid).parts[1]
        return tier if tier in {"faults", "integration", "security"} else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByTier:
    return ByTier(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that was skipped is a test that failed: nothing is skipped silently."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
