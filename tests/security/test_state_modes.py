"""Another user of the machine, and the files and processes of a stack: nothing of them can be read."""

import asyncio
import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.native.install import CHECKOUT
from deploy.native.postgres_home import CLUSTERS
from deploy.native.process import TAG
from tests.support import checkout
from tests.support.checkout import Console
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

IS_ROOT = os.geteuid() == 0
OTHERS = stat.S_IRWXG | stat.S_IRWXO
CSV = b"user_id,name\n1,Ada\n"
SAY_WHAT_IS_READABLE = 'for path; do [ -r "$path" ] && echo "$path"; done; true'


class CommandLines:
    """Collects every command line of the machine that holds one of `secrets`, for as long as a block runs."""

    def __init__(self, secrets: set[str]) -> None:
        self.secrets = secrets
        self.found: set[str] = set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(0.05):
            self.look()

    def look(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_text(errors="replace")
                self.found.update(line for secret in self.secrets if secret in line)


def secrets_of(console: Console) -> set[str]:
    lines = (console.folder / ".env").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line.startswith("PENSTOCK_")]
    words = ("SECRET", "PASSWORD", "TOKEN")
    return {value for name, value in pairs if any(word in name for word in words) and len(value) > 16}


def cluster_of(console: Console) -> Path:
    return (console.state / "postgres").resolve()


def everything(console: Console) -> list[Path]:
    """Return all that the stack made: the state folder, the cluster outside it, the variables, home and temporary."""
    roots = [console.state, cluster_of(console), console.folder / "tmp", console.folder / "home"]
    below = [path for root in roots for path in walked(root)]
    own = {console.folder / "tmp", console.folder / "home"}
    return [path for path in (*below, *console.folder.glob(".env*")) if path not in own and path.name != ".env.example"]


def walked(root: Path) -> Iterator[Path]:
    """Yield a folder and all that is in it; what goes away meanwhile is left out."""
    for folder, _, names in os.walk(root):
        yield from (Path(folder), *(Path(folder, name) for name in names))


def leave_as_earlier_versions_did(console: Console) -> None:
    """Put the cluster into the state folder and open everything to everybody."""
    home, cluster = console.state / "postgres", cluster_of(console)
    if home.is_symlink():
        home.unlink()
        shutil.move(cluster, home)  # a rename, or root keeps the owners
    for path in [console.state, *console.state.rglob("*"), console.folder / ".env"]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    for path in (home, *home.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)  # PostgreSQL itself insists


@pytest.fixture(scope="module")
def watch() -> CommandLines:
    return CommandLines(set())


@pytest.fixture(scope="module")
def console(watch: CommandLines) -> Iterator[Console]:
    """Give a stack that an earlier version left open, started again by somebody without any umask."""
    with checkout.opened() as made:
        made.folder.chmod(0o755)
        for name in ("tmp", "home"):
            (made.folder / name).mkdir(mode=0o777)
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        made.env |= {
            "TMPDIR": str(made.folder / "tmp"),
            "HOME": str(made.folder / "home"),
            "XDG_CACHE_HOME": cache,
        }
        assert made.run("up")[0] == 0
        asyncio.run(made.ask("CREATE TABLE public.kept AS SELECT 1 AS one"))
        assert made.run("down")[0] == 0
        leave_as_earlier_versions_did(made)
        made.umask = 0
        watch.secrets = secrets_of(made)
        with watch.watched():
            code, output = made.run("up")
            assert code == 0, output
            use(made)
        yield made


def use(console: Console) -> None:
    """Let every service write what it writes."""
    s3 = console.s3()
    s3.put_object(Bucket="inbox", Key="one", Body=b"1")
    s3.put_object(Bucket="src-data", Key="users.csv", Body=CSV)
    until(lambda: asyncio.run(console.statuses()).get("one") == "succeeded", 60, "the digest")
    until(lambda: s3.list_objects_v2(Bucket="processed-data").get("KeyCount"), 60, "the table as a file")
    s3.close()


def test_no_file_or_folder_is_open_to_others(console):
    found = everything(console)
    assert any(path.name == "identity.json" or "iam" in path.parts for path in found), "MinIO's users are among them"
    assert {path.name for path in (console.state / "logs").iterdir()} >= {"supervisor.log", "minio.log", "etl.log"}
    open_ones = {str(path): oct(path.lstat().st_mode) for path in found if not path.is_symlink() and _is_open(path)}
    assert open_ones == {}


def _is_open(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # servers go on writing
        return bool(path.stat().st_mode & OTHERS)
    return False


def test_another_user_reads_nothing(console):
    paths = "\0".join(map(str, everything(console)))
    assert _as_nobody("xargs", "-0", "sh", "-c", SAY_WHAT_IS_READABLE, "sh", stdin=paths) == ""


def test_another_user_does_not_find_s3_keys_by_searching(console):
    secret = console.variables["PENSTOCK_S3_SECRET_KEY_HASHER"]
    assert _as_nobody("grep", "-rlsaF", secret, str(console.folder), str(CLUSTERS)) == ""


def _as_nobody(*command: str, stdin: str = "") -> str:
    """Run a command as `nobody`; a test that is not root cannot, and tries nothing."""
    if not IS_ROOT:
        return ""
    become = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")
    return subprocess.run([*become, *command], input=stdin, capture_output=True, text=True, check=False).stdout


def test_the_tables_of_a_cluster_that_moved_are_there(console):
    assert asyncio.run(console.ask("SELECT one FROM public.kept"))[0]["one"] == 1
    assert (console.state / "postgres").is_symlink() == IS_ROOT


def test_every_process_hides_what_it_makes(console):
    masks = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(TAG) == str(console.state):
                status = Path(f"/proc/{process.pid}/status").read_text()
                masks[process.name(), process.pid] = status.partition("Umask:\t")[2][:4]
    assert len(masks) >= 7
    assert set(masks.values()) == {"0077"}


@pytest.mark.usefixtures("console")
def test_no_command_line_holds_a_secret(watch):
    assert len(watch.secrets) >= 8
    watch.look()
    assert watch.found == set()


def test_no_log_or_record_holds_a_secret(console):
    written = [
        *(console.state / "logs").iterdir(),
        console.state / "stack.json",
        console.state / "kafka/server.properties",
    ]
    texts = {path.name: path.read_text(errors="replace") for path in written}
    assert [(name, secret) for secret in secrets_of(console) for name, text in texts.items() if secret in text] == []
    assert json.loads(texts["stack.json"])["state"] == "ready"


def test_a_service_started_by_hand_hides_what_it_makes():
    env = {**os.environ, "PENSTOCK_HEALTH_PORT": "0", "PENSTOCK_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    with subprocess.Popen(
        [sys.executable, "-m", "services.ingest"],
        cwd=CHECKOUT,
        env=env,
        umask=0,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as started:
        try:
            status = Path(f"/proc/{started.pid}/status")
            until(lambda: "Umask:\t0077" in status.read_text(), 30, "its umask")
        finally:
            started.kill()
