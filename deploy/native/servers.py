"""Kafka, MinIO and PostgreSQL as programs: their commands, settings, data folders and checks."""

import base64
import os
import pwd
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import psutil

from deploy.native import kafka_login, postgres_home, private, ready
from deploy.native.install import Tools
from deploy.native.ports import HOST
from deploy.native.process import Failed, Program, as_user
from shared.environment import has_kafka_users
from shared.topics import MINIO_LIVE, MINIO_SAFE

Env = Mapping[str, str]

NAMES: Final = ("kafka", "minio", "postgres")
SMALL_CORES: Final = 2
_QUIET: Final = ("-c", "log_min_error_statement=panic")

KAFKA_SETTINGS: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
{listeners}controller.listener.names=CONTROLLER
log.dirs={data}
# topics come from one list in code
auto.create.topics.enable=false
# one node: its internal topics have one replica
offsets.topic.replication.factor=1
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=6
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=6
# a group starts and commits at once: no waiting for company
group.initial.rebalance.delay.ms=0
group.coordinator.append.linger.ms=0
# a killed broker is let back in once its old session has ended (default 9 s)
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
# what our producers may send (4 MiB), with its headers
message.max.bytes=5242880
"""


def programs(env: Env, tools: Tools) -> dict[str, Program]:
    """Return the three servers by name, ready to start, for resolved variables `env`."""
    state = Path(env["PENSTOCK_STATE_DIR"])
    private.close_state_folder(state)
    return {
        "postgres": postgres(env, tools, postgres_home.locate(state, postgres_user())),
        "kafka": kafka(env, tools, state / "kafka"),
        "minio": minio(env, tools, state / "minio"),
    }


def base_env() -> dict[str, str]:
    """Return the variables of this environment that every program gets: paths and locale, no secret."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER")
    return {name: os.environ[name] for name in names if name in os.environ}


def kafka(env: Env, tools: Tools, home: Path) -> Program:
    """Return one Kafka node that is broker and controller."""
    port, controller = int(env["PENSTOCK_KAFKA_PORT"]), int(env["PENSTOCK_KAFKA_CONTROLLER_PORT"])
    settings, data, logins = home / "server.properties", home / "data", home / "logins.conf"
    java = (str(tools.java), "-XX:-UsePerfData", "-cp", f"{tools.kafka_jars}/*", f"-Djava.io.tmpdir={home}")

    def prepare() -> None:
        private.make_folder(home)
        with private.open_file(settings, "w") as file:
            file.write(kafka_settings(env, str(data)))
        kafka_login.write_logins(env, logins)
        if not (data / "meta.properties").exists():
            shutil.rmtree(data, ignore_errors=True)
            name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "a", 1)
            _run(*java, "kafka.tools.StorageTool", "format", "-t", name, "-c", str(settings))

    # the second compiler would keep a small machine's core busy for the first minute after every start
    light = ("-XX:TieredStopAtLevel=1",) if (os.cpu_count() or 1) <= SMALL_CORES else ()
    login = (f"-Djava.security.auth.login.config={logins}",) if has_kafka_users(env) else ()
    heap = ("-Xmx512m", "-Xms128m", "-XX:+ExitOnOutOfMemoryError", *light)
    log = tuple(
        f"-Dorg.slf4j.simpleLogger.{name}"
        for name in ("showDateTime=true", "dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX")
    )
    return Program(
        name="kafka",
        command=(*java, *heap, *log, *login, "kafka.Kafka", str(settings)),
        env=base_env(),
        ports={"PENSTOCK_KAFKA_PORT": port, "PENSTOCK_KAFKA_CONTROLLER_PORT": controller},
        grace=30,
        prepare=prepare,
        check=partial(ready.kafka, env),
    )


def kafka_settings(env: Env, data: str) -> str:
    """Return `server.properties`; no secret is in it."""
    return KAFKA_SETTINGS.format(
        host=HOST,
        controller=env["PENSTOCK_KAFKA_CONTROLLER_PORT"],
        data=data,
        listeners=kafka_login.listeners(env, HOST),
    )


def minio(env: Env, tools: Tools, home: Path) -> Program:
    """Return the object store with its two notification lanes: LIVE sends at once, SAFE by a queue on disk."""
    port, console = int(env["PENSTOCK_S3_PORT"]), int(env["PENSTOCK_S3_CONSOLE_PORT"])
    data = home / "data"
    return Program(
        name="minio",
        command=(
            str(tools.minio),
            "server",
            str(data),
            "--address",
            f"{HOST}:{port}",
            "--console-address",
            f"{HOST}:{console}",
        ),
        env={**base_env(), **minio_env(env, queue_dir=home / "queue")},
        ports={"PENSTOCK_S3_PORT": port, "PENSTOCK_S3_CONSOLE_PORT": console},
        prepare=lambda: private.make_folder(data),
        check=partial(ready.minio, port),
    )


def minio_env(env: Env, *, queue_dir: Path) -> dict[str, str]:
    """Return MinIO's own variables."""
    lanes = {"LIVE": MINIO_LIVE.name, "SAFE": MINIO_SAFE.name}
    targets = {
        f"MINIO_NOTIFY_KAFKA_{name}_{lane}": value
        for lane, topic in lanes.items()
        for name, value in (("ENABLE", "on"), ("BROKERS", env["PENSTOCK_KAFKA_BOOTSTRAP"]), ("TOPIC", topic))
    }
    return {
        "MINIO_ROOT_USER": env["PENSTOCK_S3_ACCESS_KEY"],
        "MINIO_ROOT_PASSWORD": env["PENSTOCK_S3_SECRET_KEY"],
        "MINIO_API_SYNC_EVENTS": env.get("PENSTOCK_SYNC_EVENTS", "on"),
        "MINIO_API_STALE_UPLOADS_EXPIRY": "192h",  # longer than PENSTOCK_TUS_EXPIRE_DAYS, or a day would end them
        "MINIO_NOTIFY_KAFKA_QUEUE_DIR_SAFE": str(queue_dir),
        "MINIO_NOTIFY_KAFKA_QUEUE_LIMIT_SAFE": "1000000",
        "MINIO_UPDATE": "off",
        **targets,
        **{name: value for lane in lanes for name, value in kafka_login.minio_env(env, lane).items()},
    }


def postgres(env: Env, tools: Tools, home: Path) -> Program:
    """Return the database; its cluster is created at the first start, and each start sets the password of `env`."""
    dsn, port = env["PENSTOCK_POSTGRES_DSN"], int(env["PENSTOCK_POSTGRES_PORT"])
    user = postgres_user()
    data = home / "data"
    settings = {"listen_addresses": HOST, "port": port, "unix_socket_directories": ""}
    options = tuple(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))

    def prepare() -> None:
        private.make_folder(home)
        if user:
            shutil.chown(home, user, user)
        home.chmod(0o700)
        fresh = not (data / "PG_VERSION").exists()
        _remove_stale_lock(data)
        if fresh:
            _make_cluster(tools, home, data, dsn, user)
        _single_user(tools, data, dsn, user, fresh=fresh)

    return Program(
        name="postgres",
        command=(str(tools.postgres / "postgres"), "-D", str(data), *options),
        env=base_env(),
        ports={"PENSTOCK_POSTGRES_PORT": port},
        user=user,
        stop_signal=signal.SIGINT,  # SIGTERM would wait for every client to leave
        prepare=prepare,
        check=partial(ready.postgres, dsn),
    )


def postgres_user() -> str | None:
    """Return the user of PostgreSQL, which refuses root; `nobody` comes last, since other programs use it too."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _remove_stale_lock(data: Path) -> None:
    """Remove a killed postmaster's lock file once no process works in its folder.

    PostgreSQL takes a zombie for a running process, and backends outlive their postmaster for a moment.
    """
    _, alive = psutil.wait_procs([one for one in psutil.process_iter() if _works_in(one, data)], timeout=10)
    if not alive:
        (data / "postmaster.pid").unlink(missing_ok=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd() == str(folder)
    except psutil.Error:
        return False


def _make_cluster(tools: Tools, home: Path, data: Path, dsn: str, user: str | None) -> None:
    """Create a cluster in another folder and rename it, so that an incomplete one is never used."""
    half = home / "data.part"
    shutil.rmtree(half, ignore_errors=True)
    owner = unquote(urlsplit(dsn).username or "penstock")
    options = ("-D", str(half), "-U", owner, "-E", "UTF8", "--locale=C.UTF-8", "--auth=reject")
    _run(str(tools.postgres / "initdb"), *options, user=user)
    (half / "pg_hba.conf").write_text(f"host all all {HOST}/32 scram-sha-256\n")
    half.rename(data)


def _single_user(tools: Tools, data: Path, dsn: str, user: str | None, *, fresh: bool) -> None:
    """Set the password, and create the database in a new cluster, before the server accepts connections."""
    parts = urlsplit(dsn)
    owner, name = unquote(parts.username or "penstock"), unquote(parts.path.strip("/") or "penstock")
    lines = [f"""ALTER ROLE "{owner}" PASSWORD '{_password(dsn).replace("'", "''")}'"""]
    if fresh:
        lines.append(f'CREATE DATABASE "{name}" OWNER "{owner}"')
    # a statement that fails is not logged: it holds the password
    command = (str(tools.postgres / "postgres"), "--single", "-D", str(data), *_QUIET, "postgres")
    _run(*command, user=user, stdin="".join(f"{line};\n" for line in lines))


def _password(dsn: str) -> str:
    return unquote(urlsplit(dsn).password or "penstock")


def _run(*command: str, user: str | None = None, stdin: str = "") -> None:
    """Run a short command until it ends.

    Raises:
        Failed: the exit code is not 0; the text holds the output.

    """
    done = subprocess.run(
        ["setpriv", *as_user(user), "--", *command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=base_env(),
        cwd="/",
        umask=private.UMASK,
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-2000:]
        raise Failed(f"{Path(command[0]).name} failed (exit code {done.returncode})\n{output}")
