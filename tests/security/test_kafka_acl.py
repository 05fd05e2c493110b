"""Kafka with a user per service: each does its work and no more than its own, and a stranger does nothing."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.admin import CreateTopicsRequest, DeleteAclsRequest, ListGroupsRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest
from pydantic import SecretStr

from deploy.native import services
from deploy.native.stack import Stack
from services.catalogue import manifests
from shared.kafka import KafkaRefused, check_access, client_options
from shared.provision.kafka_requests import Credential
from shared.provision.kafka_rights import rights_of
from shared.provision.kafka_users import _alter, ensure_kafka_users
from shared.provision.topics import ensure_topics, open_admin
from shared.settings import Settings
from shared.topics import MINIO_LIVE, OBJECTS_CHANGED, OBJECTS_HASHED
from tests.support import ingress, own_stack
from tests.support.console import Console, faults
from tests.support.kafka_user import logged_in
from tests.support.system import SystemUnderTest
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(400)
MANIFESTS = manifests()
CONSUMERS, PRODUCERS, USERS = MANIFESTS.consumers, MANIFESTS.producers, MANIFESTS.kafka_users
EVERY_TOPIC = sorted(topic.name for topic in MANIFESTS.all_topics)
GROUPS = [*CONSUMERS, "somebody-else"]
SERVICES = sorted(CONSUMERS)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with own_stack.state_folder() as folder, own_stack.native(own_stack.env_of(folder, kafka_auth="scram")) as stack:
        stack.start_servers()
        stack.setup()
        yield stack


def user(stack: Stack, name: str) -> Settings:
    """Return the settings of one of Kafka's users, the operator for an empty name."""
    if not name:
        return Settings.of(stack.env)
    password = stack.env[f"PENSTOCK_KAFKA_PASSWORD_{name.upper()}"]
    return Settings.of(stack.env, kafka_user=f"penstock-{name}", kafka_password=password)


def stranger(stack: Stack, **changes: object) -> Settings:
    return Settings.of(stack.env, **{"kafka_user": "", "kafka_password": "", **changes})


def test_every_service_does_its_work(system: SystemUnderTest) -> None:
    system.serve("etl")
    ingress.serve(system)
    system.put("a")
    assert system.hashed("a")["digests"]
    system.kafka.send(OBJECTS_CHANGED.name, b"no event", b"inbox/x")
    system.kafka.send(MINIO_LIVE.name, b"no notification", b"inbox/x")
    dead = [f"objects.changed.v1.{name}.dlq" for name in ("hasher", "etl")] + ["minio.live.ingest.dlq"]
    until(lambda: all(map(system.kafka.read, dead)), 60, f"dead letters on {dead}")
    with ingress.client(system) as client:
        path = f"/timeline/inbox/{system.prefix}a"
        until(lambda: "objects.hashed.v1" in client.get(path).text, 60, "the timeline shows the digests")
        workers = until(lambda: client.get("/stats/workers"), 30, "the lag of every group").json()
        assert {one["group"] for one in workers["groups"]} == set(CONSUMERS)
        assert client.post("/data", json={}).status_code == 202
        until(lambda: system.kafka.read("etl.completed.v1"), 60, "a load that was asked for over HTTP")
    for name in SERVICES:
        assert "kafka.denied" not in system.stack.logs(name)
        assert "kafka.refused" not in system.stack.logs(name)


@pytest.mark.parametrize("name", USERS)
async def test_a_user_may_do_no_more_than_its_own(stack: Stack, name: str) -> None:
    reads = {topic.name for topic in CONSUMERS.get(name, ())}
    dead = {f"{topic}.{name}.dlq" for topic in reads if not topic.endswith(".dlq")}
    writes = {topic.name for topic in PRODUCERS[name]} | dead
    observes = name == "ingress"
    described = reads | writes | ({topic.name for read in CONSUMERS.values() for topic in read} if observes else set())
    async with logged_in(user(stack, name)) as one:
        assert await one.reads([*EVERY_TOPIC, "__consumer_offsets"]) == reads
        assert await one.writes([*EVERY_TOPIC, "__consumer_offsets"]) == writes
        assert await one.sees() == described
        for group in GROUPS:
            await one.coordinates(group)
        assert await one.joins(GROUPS) == ({name} if reads else set())
        assert await one.watches(GROUPS) == (set(CONSUMERS) if observes else {name} if reads else set())
        foreign = min(set(EVERY_TOPIC) - writes)
        assert await one.administers(foreign, "ingest" if name != "ingest" else "hasher") == set()
        assert await one.administers(min(writes), name) == set()


async def test_a_service_cannot_forge_a_notification(stack: Stack) -> None:
    async with AIOKafkaProducer(**client_options(user(stack, "hasher"))) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(MINIO_LIVE.name, b"{}", key=b"inbox/forged")


async def test_a_client_without_a_user_is_told_nothing_and_does_nothing(stack: Stack) -> None:
    host, port = stack.env["PENSTOCK_KAFKA_BOOTSTRAP"].split(":")
    with pytest.raises(KafkaRefused, match=r"closes the connection.*PENSTOCK_KAFKA_USER"):
        await check_access(stranger(stack))
    for request in (
        MetadataRequest(None),
        ListGroupsRequest(),
        ProduceRequest(None, -1, 5000, [(MINIO_LIVE.name, [(0, b"")])]),
        CreateTopicsRequest([("mine", 1, 1, [], [])], 5000, validate_only=False),
    ):
        conn = await create_conn(host, int(port))
        with pytest.raises(KafkaConnectionError):
            await conn.send(request)
    assert "mine" not in await topics_of(user(stack, ""))


async def topics_of(settings: Settings) -> set[str]:
    async with logged_in(settings) as one:
        return await one.sees()


@pytest.mark.parametrize(
    ("name", "password", "mechanism"),
    [
        ("penstock", "wrong-9e1f", "SCRAM-SHA-512"),
        ("penstock", "wrong-9e1f", "PLAIN"),
        ("penstock-hasher", "wrong-9e1f", "SCRAM-SHA-512"),
        ("penstock-hasher", "wrong-9e1f", "SCRAM-SHA-256"),
        ("penstock-nobody", "wrong-9e1f", "SCRAM-SHA-512"),
    ],
)
async def test_a_wrong_password_is_refused_in_one_line_without_it(stack, name, password, mechanism) -> None:
    login = {"kafka_user": name, "kafka_password": password, "kafka_mechanism": mechanism}
    settings = stranger(stack, **login)
    with pytest.raises(KafkaRefused) as refused:
        await check_access(settings)
    message = str(refused.value)
    assert f"user {name}" in message
    assert "wrong user name or password: check PENSTOCK_KAFKA_USER" in message
    assert password not in message
    assert "\n" not in message
    for client in (AIOKafkaProducer(**client_options(settings)), AIOKafkaConsumer("x", **client_options(settings))):
        with pytest.raises(KafkaError):
            await client.start()
        await client.stop()


async def test_the_services_user_cannot_log_in_by_plain(stack: Stack) -> None:
    with pytest.raises(KafkaRefused, match="wrong user name"):
        await check_access(user(stack, "hasher").model_copy(update={"kafka_mechanism": "PLAIN"}))


async def test_the_controller_answers_no_stranger(stack: Stack) -> None:
    address = f"127.0.0.1:{stack.env['PENSTOCK_KAFKA_CONTROLLER_PORT']}"
    conn = await create_conn("127.0.0.1", int(stack.env["PENSTOCK_KAFKA_CONTROLLER_PORT"]))
    with pytest.raises(KafkaConnectionError):
        await conn.send(CreateTopicsRequest([("mine", 1, 1, [], [])], 5000, validate_only=False))
    for login in (user(stack, "hasher"), user(stack, "hasher").model_copy(update={"kafka_mechanism": "PLAIN"})):
        with pytest.raises(KafkaRefused):
            await check_access(login.model_copy(update={"kafka_bootstrap": address}))


def test_a_service_with_a_wrong_password_says_so_and_goes_on_when_it_is_right(system: SystemUnderTest) -> None:
    system.stop("hasher")
    system.stack.start_service("hasher", env={"PENSTOCK_KAFKA_PASSWORD": "wrong-9e1f"}, wait=False)
    log = until(lambda: _line(system.stack.logs("hasher"), "kafka.refused"), 60, lambda: system.stack.logs("hasher"))
    assert log["user"] == "penstock-hasher"
    assert "wrong user name or password" in log["reason"]
    assert "wrong-9e1f" not in system.stack.logs("hasher")
    asyncio.run(_set_password(system.stack, "hasher", "wrong-9e1f"))
    try:
        system.stack._process("hasher").wait_ready()
    finally:
        system.stop("hasher")
        passwords = {"hasher": SecretStr(system.stack.env["PENSTOCK_KAFKA_PASSWORD_HASHER"])}
        changed = asyncio.run(ensure_kafka_users(user(system.stack, ""), MANIFESTS, passwords))
    assert changed == ["Kafka user penstock-hasher: password set"]


def test_a_service_without_rights_says_so_and_goes_on_when_they_are_granted(system: SystemUnderTest) -> None:
    system.stop("hasher")
    asyncio.run(_revoke_all(system.stack, "penstock-hasher"))
    system.stack.start_service("hasher", wait=False)
    try:
        until(lambda: _line(system.stack.logs("hasher"), "kafka.denied"), 60, lambda: system.stack.logs("hasher"))
        system.put("late")
    finally:
        changed = asyncio.run(ensure_kafka_users(user(system.stack, ""), MANIFESTS, {}))
    assert len(changed) == 1
    assert changed[0].startswith("Kafka user penstock-hasher: granted ")
    system.hashed("late")


async def _revoke_all(stack: Stack, name: str) -> None:
    async with logged_in(user(stack, "")) as one:
        answer = await one.ask(DeleteAclsRequest(1, None, 1, f"User:{name}", None, 1, 1))
    assert len(answer.filter_responses[0][2]) == len(rights_of(MANIFESTS, name.removeprefix("penstock-")))


async def _set_password(stack: Stack, name: str, password: str) -> None:
    async with open_admin(user(stack, "")) as admin:
        await _alter(admin, [Credential.of(f"penstock-{name}", password, "SCRAM-SHA-512")], [])


def _line(text: str, event: str) -> dict[str, str] | None:
    found = (json.loads(line) for line in text.splitlines() if f'"{event}"' in line)
    return next(found, None)


async def test_set_up_takes_back_what_is_not_in_the_list(stack: Stack) -> None:
    operator = user(stack, "")
    async with logged_in(operator) as one:
        assert "grant" in await one.administers("no-such-topic", "no-such-group")
    async with open_admin(operator) as admin:
        credential = Credential.of("penstock-old", "some-password", "SCRAM-SHA-512")
        await _alter(admin, [credential, Credential.of("grafana", "some-password", "SCRAM-SHA-512")], [])
    assert sorted(await ensure_kafka_users(operator, MANIFESTS, {})) == [
        "Kafka user penstock-old: removed",
        "Kafka user penstock-x: removed",
        "Kafka user penstock-x: revoked operation 2 topic *",
    ]
    assert await ensure_kafka_users(operator, MANIFESTS, {}) == []
    grafana = operator.model_copy(update={"kafka_user": "grafana", "kafka_password": SecretStr("some-password")})
    await check_access(grafana)
    async with logged_in(grafana) as one:
        assert await one.sees() == set()


async def test_only_the_operator_sets_up(stack: Stack) -> None:
    with pytest.raises(Exception, match="penstock-hasher lacks an ACL"):
        await ensure_kafka_users(user(stack, "hasher"), MANIFESTS, {})


def test_no_password_is_in_a_process_list_or_an_open_file(stack: Stack) -> None:
    secrets = {value for name, value in stack.env.items() if name.startswith("PENSTOCK_KAFKA_PASSWORD")}
    assert len(secrets) == len(USERS) + 1
    home = stack.state_dir / "kafka"
    assert stat.S_IMODE((home / "logins.conf").stat().st_mode) == 0o600
    assert not any(secret in (home / "server.properties").read_text() for secret in secrets)
    commands = [" ".join(psutil.Process(process.pid).cmdline()) for process in stack.processes.values() if process.pid]
    logs = [path.read_text(errors="replace") for path in (stack.state_dir / "logs").glob("*.log")]
    assert not [secret for secret in secrets for text in (*commands, *logs) if secret in text]


def test_a_service_is_given_its_own_kafka_user_and_no_other(stack: Stack) -> None:
    given = services.service(stack.env, "hasher", 1, 8090).env
    assert (given["PENSTOCK_KAFKA_USER"], given["PENSTOCK_KAFKA_PASSWORD"]) == (
        "penstock-hasher",
        stack.env["PENSTOCK_KAFKA_PASSWORD_HASHER"],
    )
    assert not [name for name in given if name.startswith("PENSTOCK_KAFKA_PASSWORD_")]


async def test_the_doctor_finds_all_well(stack: Stack) -> None:
    assert await faults(stack) == []


def test_the_console_works_as_the_operator(system: SystemUnderTest) -> None:
    system.serve("etl")
    ingress.serve(system)
    console = Console(system.stack.env, system.stack.state_dir)
    console.run("dlq", "list")
    console.run("sweep", "inbox")


@pytest.mark.timeout(300)
def test_users_are_turned_on_changed_and_turned_off_on_an_existing_stack() -> None:
    with own_stack.state_folder() as folder:
        env = own_stack.env_of(folder)
        with own_stack.native(env) as stack:
            stack.start("kafka")
            asyncio.run(_make_topics(env))
        for password in ("first-password", "second-password"):
            scram = own_stack.with_users(env, PENSTOCK_KAFKA_PASSWORD=password)
            with own_stack.native(scram) as stack:
                stack.start("kafka")
                assert OBJECTS_HASHED.name in asyncio.run(topics_of(Settings.of(scram)))
                with pytest.raises(KafkaRefused):
                    asyncio.run(check_access(Settings.of(env)))
        with own_stack.native(env) as stack:
            stack.start("kafka")
            assert OBJECTS_HASHED.name in asyncio.run(topics_of(Settings.of(env)))
            assert not (Path(env["PENSTOCK_STATE_DIR"]) / "kafka" / "logins.conf").exists()


async def _make_topics(env: dict[str, str]) -> None:
    await ensure_topics(Settings.of(env), MANIFESTS.all_topics)
