"""A service that is one new folder is found, provisioned, started, consumed and documented; no other file changes."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.native.install import CHECKOUT
from shared.kafka import client_options
from shared.settings import Settings
from tests.support import checkout, new_service
from tests.support.checkout import Console
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROLES = "SELECT usename FROM pg_stat_activity WHERE application_name = 'penstock-census'"


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    with checkout.opened() as made:
        for part in ("docs", "pyproject.toml"):
            copy = shutil.copytree if (CHECKOUT / part).is_dir() else shutil.copy
            copy(CHECKOUT / part, made.folder / part)
        new_service.write(made.folder)
        made.env["PENSTOCK_KAFKA_AUTH"] = "scram"
        yield made


@pytest.fixture(scope="module")
def stack(console: Console) -> Console:
    code, output = console.run("up")
    assert code == 0, output
    return console


def ask(stack: Console, question: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in asyncio.run(stack.ask(question))]


async def records(stack: Console, topic: str) -> list[bytes]:
    settings = Settings.of(stack.variables)
    async with AIOKafkaConsumer(topic, **client_options(settings), auto_offset_reset="earliest") as reader:
        found = await reader.getmany(timeout_ms=2000)
    return [record.value for some in found.values() for record in some]


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_new_service_is_provisioned_started_and_consumed(stack):
    assert "census" in stack.pids()
    variables = stack.variables
    kinds = ("S3_SECRET_KEY", "POSTGRES_PASSWORD", "KAFKA_PASSWORD")
    assert all(variables[f"PENSTOCK_{kind}_CENSUS"] for kind in kinds)
    assert until(lambda: ask(stack, ROLES), 30, "census is connected")[0] == ("penstock_census",)
    stack.s3().put_object(Bucket="inbox", Key="a", Body=b"a")
    until(lambda: ask(stack, "SELECT * FROM api.census") == [("inbox", 1)], 60, "the object is counted")
    until(lambda: asyncio.run(records(stack, "objects.counted.v1")), 60, "the fact is published")
    counted = "SELECT key FROM api.timeline WHERE type = 'objects.counted.v1'"
    until(lambda: ask(stack, counted) == [("a",)], 60, "the ingress shows the fact")


def test_new_service_dead_letters_a_bad_record_to_its_own_topic(stack):
    async def send() -> None:
        async with AIOKafkaProducer(**client_options(Settings.of(stack.variables))) as producer:
            await producer.send_and_wait("objects.changed.v1", b"no event", key=b"inbox/x")

    asyncio.run(send())
    topic = "objects.changed.v1.census.dlq"
    until(lambda: asyncio.run(records(stack, topic)) == [b"no event"], 60, f"a dead letter on {topic}")


def test_set_up_is_complete_after_up(stack):
    assert "nothing to change" in run(stack.folder, sys.executable, "-m", "services.cli", "setup")


def test_new_service_is_documented_and_checked(console):
    for module in ("services.asyncapi", "deploy.settings_table", "deploy.architecture_tables"):
        run(console.folder, sys.executable, "-m", module)
    assert "census:objects.changed.v1" in (console.folder / "deploy/asyncapi.yaml").read_text()
    assert "PENSTOCK_CENSUS_PREFIX" in (console.folder / "docs/settings.md").read_text()
    page = (console.folder / "docs/architecture.md").read_text()
    for row in (
        "| `census` | `objects.changed.v1` | `objects.counted.v1` | `census.objects`: every counted object |",
        "| `objects.counted.v1` | bucket/key | 6 | an object was counted |",
        "| `api.census` | every bucket with counted objects | census |",
    ):
        assert row in page
    handlers = console.folder / "services/census/handlers.py"
    lint = str(Path(sys.executable).with_name("lint-imports"))
    run(console.folder, lint, "--no-cache")
    text = handlers.read_text()
    handlers.write_text(text + "\nfrom services.hasher.core import decisions\n")
    try:
        with pytest.raises(AssertionError, match="services are independent of each other BROKEN"):
            run(console.folder, lint, "--no-cache")
    finally:
        handlers.write_text(text)
