"""The stack of `docker-compose.yml` on a real engine, as `make up` starts it, without and with Kafka users."""

import hashlib
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from deploy import compose
from deploy.native import container
from deploy.native.install import CHECKOUT
from services.catalogue import manifests, names
from shared.kafka import KafkaRefused, check_access, client_options
from shared.settings import Settings
from shared.topics import MINIO_LIVE
from tests.support import own_stack
from tests.support.console import Console
from tests.support.database import Database
from tests.support.kafka_user import logged_in
from tests.support.waiting import until

# the first run builds MinIO from its source
pytestmark = pytest.mark.timeout(2400)
EITHER = pytest.mark.parametrize("stack", ["none", "scram"], indirect=True, ids=["open Kafka", "Kafka users"])
USERS_ONLY = pytest.mark.parametrize("stack", ["scram"], indirect=True, ids=["Kafka users"])
MANIFESTS = manifests()
EVERY_TOPIC = sorted(topic.name for topic in MANIFESTS.all_topics)


@dataclass
class Compose:
    """A project of its own beside every other stack of this machine."""

    env: dict[str, str]
    folder: Path

    def run(self, *words: str) -> str:
        """Run one command of docker compose to its end and return what it printed."""
        command = ["docker", "compose", *compose.files(self.env), *words]
        done = subprocess.run(
            command, cwd=CHECKOUT, env={**os.environ, **self.env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """Return the end of each container's log."""
        command = ["docker", "compose", *compose.files(self.env), "logs", "--tail", "40"]
        done = subprocess.run(
            command, cwd=CHECKOUT, env={**os.environ, **self.env}, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    @property
    def console(self) -> Console:
        """The console on this machine."""
        return Console(self.env, self.folder)


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Compose]:
    if os.environ.get("PENSTOCK_NATIVE") or not container.answers():
        pytest.skip("no Docker engine answers `docker info`, or PENSTOCK_NATIVE is set")
    with own_stack.state_folder() as folder:
        project = {"COMPOSE_PROJECT_NAME": "penstock-test"}
        one = Compose(own_stack.env_of(folder, kafka_auth=request.param) | project, folder)
        try:
            one.run(*compose.COMMANDS["up"])
            yield one
        finally:
            one.run(*compose.COMMANDS["clean"])


def faults(stack: Compose) -> list[dict[str, object]]:
    """Return what `penstock doctor` finds wrong; a busy machine may not answer all at once in their time."""
    out, _ = stack.console.start("doctor", "--json").communicate(timeout=120)
    return [one for one in json.loads(out)["findings"] if not one["ok"]]


def store(stack: Compose, *words: str) -> None:
    """Store a file by the console, and see that its digest comes and is right."""
    path = stack.folder / f"{uuid.uuid4().hex}.bin"
    path.write_bytes(os.urandom(4096))
    (one,) = stack.console.json("put", str(path), "s3://inbox/", "--wait", "--timeout", "90", *words)["objects"]
    assert one["digest"]["digests"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@EITHER
def test_every_container_is_well_and_so_says_the_doctor(stack: Compose) -> None:
    states = {one["name"]: one["state"] for one in stack.console.json("status")["processes"]}
    assert states == {**dict.fromkeys([*names(), "kafka", "minio", "postgres"], "healthy"), "setup": "done"}
    until(lambda: not (wrong := faults(stack)) or print(wrong), 240, stack.logs)


@EITHER
@pytest.mark.parametrize("door", ["S3", "HTTP"])
def test_an_object_has_its_digests_through_either_door(stack: Compose, door: str) -> None:
    store(stack, *(["--url", stack.env["PENSTOCK_HTTP_URL"]] if door == "HTTP" else []))


@EITHER
def test_a_file_becomes_rows(stack: Compose) -> None:
    name = f"n{uuid.uuid4().hex[:10]}"
    path = stack.folder / f"{name}.csv"
    path.write_text(f"user_id,first_name,last_name,birthts\n{name},Ada,{name},{time.time() - 1e9:.0f}000\n")
    stack.console.run("put", str(path), "s3://src-data/")
    database = Database(stack.env["PENSTOCK_POSTGRES_DSN"])
    until(lambda: database.rows("SELECT * FROM api.users WHERE last_name = $1", name), 90, stack.logs)


@EITHER
def test_no_service_runs_as_root_or_writes_to_its_image(stack: Compose) -> None:
    for name in [*names(), "minio"]:
        assert stack.run("exec", "--no-TTY", name, "id", "-u").strip() == "10001", name
        touched = "touch /app/x /usr/x 2>/dev/null && echo written || echo refused"
        assert stack.run("exec", "--no-TTY", name, "sh", "-c", touched).strip() == "refused", name


def user(stack: Compose, name: str) -> Settings:
    """Return the settings of a service's user of Kafka."""
    password = stack.env[f"PENSTOCK_KAFKA_PASSWORD_{name.upper()}"]
    return Settings.of(stack.env, kafka_user=f"penstock-{name}", kafka_password=password)


@USERS_ONLY
async def test_a_client_without_a_user_is_refused(stack: Compose) -> None:
    for login in ({"kafka_user": "", "kafka_password": ""}, {"kafka_user": "penstock", "kafka_password": "wrong-9e1f"}):
        with pytest.raises(KafkaRefused):
            await check_access(Settings.of(stack.env, **login))


@USERS_ONLY
@pytest.mark.parametrize("name", MANIFESTS.kafka_users)
async def test_a_user_may_do_no_more_than_its_own(stack: Compose, name: str) -> None:
    reads = {topic.name for topic in MANIFESTS.consumers.get(name, ())}
    dead = {f"{topic}.{name}.dlq" for topic in reads if not topic.endswith(".dlq")}
    writes = {topic.name for topic in MANIFESTS.producers[name]} | dead
    async with logged_in(user(stack, name)) as one:
        assert await one.reads([*EVERY_TOPIC, "__consumer_offsets"]) == reads
        assert await one.writes([*EVERY_TOPIC, "__consumer_offsets"]) == writes
        assert await one.administers(min(writes), name) == set()


@USERS_ONLY
async def test_a_service_cannot_forge_a_notification(stack: Compose) -> None:
    async with AIOKafkaProducer(**client_options(user(stack, "hasher"))) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(MINIO_LIVE.name, b"{}", key=b"inbox/forged")


@USERS_ONLY
def test_no_service_is_refused_or_denied(stack: Compose) -> None:
    said = [line for line in stack.run("logs", "--no-log-prefix", *names()).splitlines() if line.startswith("{")]
    events = {json.loads(line).get("event") for line in said}
    assert events & {"kafka.refused", "kafka.denied"} == set()
