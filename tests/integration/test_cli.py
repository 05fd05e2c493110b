"""The console against real servers and services, as an operator starts it: a process, its output, its exit code."""

import asyncio
import hashlib
import json
import os
import signal
import time
import uuid
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from tests.support.console import Console
from tests.support.s3 import s3_client
from tests.support.waiting import until

pytestmark = pytest.mark.integration

DLQ_TOPIC = "objects.changed.v1.hasher.dlq"


@pytest.fixture(scope="module")
def spine(stack):
    for name in ("ingest", "hasher"):
        if name not in stack.processes:
            stack.start_service(name)
        elif stack.pid(name) is None:
            stack.start(name)
    return stack


def start_ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.fixture
def console(spine, tmp_path):
    """The console, with a state file as the supervisor writes it."""
    running = [
        {
            "name": name,
            "pid": process.pid,
            "state": "running",
            "restarts": 0,
            "start_ticks": start_ticks(process.pid) if process.pid else None,
            "ports": {word.removeprefix("PENSTOCK_").lower(): port for word, port in process.program.ports.items()},
        }
        for name, process in spine.processes.items()
        if name in {"kafka", "minio", "postgres", "ingest", "hasher"}
    ]
    state = tmp_path / "state"
    state.mkdir()
    (state / "stack.json").write_text(json.dumps({"processes": running}))
    env = spine.env | {"PENSTOCK_STATE_DIR": str(state), "PENSTOCK_JOURNAL_DIR": str(tmp_path / "journal")}
    return Console(env, tmp_path)


@pytest.fixture
def s3(stack):
    return s3_client(stack.env)


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"timed out after {seconds} s"
        time.sleep(0.05)
    return found


def prefix():
    return f"cli-{uuid.uuid4().hex[:8]}"


def test_put_stores_a_folder_and_shows_its_digests(console):
    names = ["a b+c%2B.txt", "deep/ü.bin", "empty"]
    for name in names:
        path = console.folder / "box" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else name.encode() * 1000)
    where = prefix()
    found = console.json("put", "box", f"s3://inbox/{where}", "--wait", "--checksum", "sha256", "--timeout", "60")
    assert found["failed"] == []
    digests = {one["key"]: one["digest"] for one in found["objects"]}
    for name in names:
        body = (console.folder / "box" / name).read_bytes()
        one = digests[f"{where}/box/{name}"]
        assert one["status"] == "succeeded"
        assert one["verification"] == "verified"
        assert one["digests"]["sha256"] == hashlib.sha256(body).hexdigest()
        assert one["digests"]["md5"] == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert (
        console.json("digest", f"s3://inbox/{where}/box/deep/ü.bin")["digests"]
        == digests[f"{where}/box/deep/ü.bin"]["digests"]
    )


def test_put_names_a_rejected_file_and_stores_the_others(console, s3):
    box = console.folder / "box"
    box.mkdir()
    (box / "good").write_text("1")
    (box / "bad\x1b[2J").write_text("1")
    where = prefix()
    out, err = console.run("put", "box/", f"s3://inbox/{where}", code=1)
    assert out == f"s3://inbox/{where}/good  1 B\n"
    assert r"bad\x1b[2J' holds U+001B control character: rename it" in err
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="inbox", Prefix=where)["Contents"]] == [f"{where}/good"]


def open_parts(s3, key):
    """Return the part numbers of the open upload of `key`; None without one."""
    uploads = s3.list_multipart_uploads(Bucket="inbox", Prefix=key).get("Uploads")
    if not uploads:
        return None
    parts = s3.list_parts(Bucket="inbox", Key=key, UploadId=uploads[0]["UploadId"])
    return {part["PartNumber"]: part["LastModified"] for part in parts.get("Parts", ())}


@pytest.mark.parametrize("changed", [False, True])
def test_killed_upload_resumes_and_leaves_no_open_upload(console, s3, changed):
    big = console.folder / "big.bin"
    big.write_bytes(os.urandom(1 << 20) * 300)
    key = f"{prefix()}/big.bin"
    words = ("put", "big.bin", f"s3://inbox/{key}", "--as-key", "--parallel", "1")
    first = console.start(*words)
    had = wait_for(lambda: open_parts(s3, key))
    first.kill()
    first.communicate()
    assert open_parts(s3, key) is not None
    if changed:
        big.write_bytes(os.urandom(1 << 20) * 40)
    _, err = console.run(*words)
    assert "resuming an earlier run" in err
    assert open_parts(s3, key) is None
    assert had
    body = s3.get_object(Bucket="inbox", Key=key)["Body"]
    assert hashlib.sha256(body.read()).digest() == hashlib.sha256(big.read_bytes()).digest()
    assert list((console.folder / "journal").iterdir()) == []


def test_interrupted_command_prints_what_continues(console):
    process = console.start("watch")
    wait_for(lambda: "watching" in process.stderr.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the services continue" in err


async def _insert_failure(stack, key, etag):
    connection = await asyncpg.connect(stack.env["PENSTOCK_POSTGRES_DSN"])
    await connection.execute(
        "INSERT INTO hasher.digests (bucket, key, etag, size, status, error, revision, correlation_id)"
        " VALUES ('inbox', $1, $2, 1, 'failed', 'the disk of x is on fire', 0, '')",
        key,
        etag,
    )
    await connection.close()


async def _is_hidden(stack, key):
    connection = await asyncpg.connect(stack.env["PENSTOCK_POSTGRES_DSN"])
    count = await connection.fetchval("SELECT count(*) FROM api.digests WHERE bucket = 'inbox' AND key = $1", key)
    await connection.close()
    return count == 0


def test_exit_code_of_digest_is_the_state_of_the_object(console, spine, s3):
    key = prefix()
    assert console.json("digest", f"s3://inbox/{key}", code=4)["status"] == "unknown"
    spine.stop("hasher")
    try:
        etag = s3.put_object(Bucket="inbox", Key=key, Body=b"1")["ETag"].strip('"')
        assert console.json("digest", f"s3://inbox/{key}", code=3)["status"] == "pending"
        failing = f"{key}-failing"
        s3.put_object(Bucket="inbox", Key=failing, Body=b"1")
        asyncio.run(_insert_failure(spine, failing, etag))
        out, _ = console.run("digest", f"s3://inbox/{failing}", code=1)
        assert "failed: the disk of x is on fire" in out
    finally:
        spine.start("hasher")
    assert console.json("digest", f"s3://inbox/{key}", "--wait", "60")["status"] == "succeeded"
    found = console.json("digest", f"s3://inbox/{key}")
    s3.delete_object(Bucket="inbox", Key=key)
    until(lambda: asyncio.run(_is_hidden(spine, key)), 60, "the hasher hides the removed object")
    removed = console.json("digest", f"s3://inbox/{key}")
    assert (removed["status"], removed["digests"]) == ("succeeded", found["digests"])
    assert "removed since" in removed["remark"]
    s3.put_object(Bucket="results", Key=key, Body=b"1")
    assert "not an input bucket" in console.json("digest", f"s3://results/{key}", code=4)["remark"]


def test_watch_shows_facts_as_they_are_published(console, s3):
    key = f"{prefix()}/a b.txt"
    watching = console.start("watch", "--json", "--bucket", "inbox", "--key", key, "--count", "2", "--duration", "60s")
    assert "watching" in watching.stderr.readline()
    s3.put_object(Bucket="inbox", Key=key + "-another", Body=b"2")
    s3.put_object(Bucket="inbox", Key=key, Body=b"1")
    out, _ = watching.communicate(timeout=60)
    facts = [json.loads(line) for line in out.splitlines()]
    assert {fact["type"] for fact in facts} == {"objects.changed.v1", "objects.hashed.v1"}
    assert {fact["data"]["key"] for fact in facts} == {key}
    assert len({fact["correlation_id"] for fact in facts}) == 1
    again, _ = console.run("watch", "--since", "5m", "--key", key, "--count", "2", "--duration", "60s")
    assert f"inbox/{key}" in again


def test_status_shows_processes_lag_and_dead_letters(console):
    found = console.json("status")
    assert {one["name"]: one["state"] for one in found["processes"]} == dict.fromkeys(
        ("kafka", "minio", "postgres", "ingest", "hasher"), "running"
    )
    assert all({"name", "pid", "state", "restarts"} <= set(one) for one in found["processes"])
    assert set(found["lag"]) == {"ingest", "hasher", "etl", "ingress"}
    assert found["lag"]["hasher"].keys() == {"objects.changed.v1"}
    assert found["dead_letters"].keys() >= {DLQ_TOPIC}
    assert found["errors"] == {}


def test_status_without_kafka_shows_the_other_parts(console):
    found = console.json("status", code=1, PENSTOCK_KAFKA_PORT="1")
    assert found["lag"] is None
    assert found["dead_letters"] is None
    assert found["queues"] is not None
    assert "Kafka at 127.0.0.1:1 does not answer" in found["errors"]["lag"]
    _, err = console.run("dlq", "list", code=1, PENSTOCK_KAFKA_PORT="1")
    assert err.count("\n") == 1


def test_sweep_prints_its_counts(console):
    found = console.json("sweep", "inbox", "--timeout", "60")
    assert found["buckets"] == ["inbox"]
    assert found["listed"] >= 0
    assert console.json("status")["notification_loss"]["sweeps"] >= 1


async def _poison(stack, body):
    producer = AIOKafkaProducer(bootstrap_servers=stack.env["PENSTOCK_KAFKA_BOOTSTRAP"])
    await producer.start()
    await producer.send_and_wait("objects.changed.v1", body, key=b"inbox/\x1b[2J", headers=[("mine", b"1")])
    await producer.stop()


def test_dead_letter_is_listed_replayed_up_to_max_attempts_and_discarded(console, spine):
    def dead_letters():
        found = console.json("dlq", "list", "--each", "--code", "BAD_EVENT")["dead_letters"]
        return [one for one in found if one["key"] == "inbox/\x1b[2J"]

    console.run("dlq", "discard", "--all")
    asyncio.run(_poison(spine, b"\x1b[31m no json"))
    (dead_letter,) = wait_for(dead_letters)
    assert (dead_letter["attempts"], dead_letter["service"]) == (1, "hasher")

    out, _ = console.run("dlq", "show", dead_letter["id"])
    assert "\x1b" not in out
    assert r"\x1b[31m no json" in out
    assert console.json("dlq", "replay", dead_letter["id"], "--dry-run")["replayed"] == [dead_letter["id"]]
    assert dead_letters() == [dead_letter]

    for attempts in (2, 3):
        console.run("dlq", "replay", "--code", "BAD_EVENT")
        wait_for(lambda: [one["attempts"] for one in dead_letters()] == [attempts])  # noqa: B023 - called at once
    held = console.json("dlq", "replay", "--all", code=1)
    assert (held["replayed"], len(held["held"])) == ([], 1)
    shown = console.json("dlq", "show", held["held"][0])
    assert shown["headers"]["mine"] == "1"
    assert shown["origin_topic"] == "objects.changed.v1"
    assert shown["resolved"] is False

    assert console.json("dlq", "discard", "--all")["discarded"] == held["held"]
    assert dead_letters() == []
    assert console.json("status")["dead_letters"][DLQ_TOPIC] == 0
    console.run("dlq", "discard", held["held"][0], code=1)


def test_doctor_finds_and_fixes_a_missing_notification_rule(console, s3):
    healthy = console.json("doctor")
    assert healthy["ok"], [one for one in healthy["findings"] if not one["ok"]]
    s3.put_bucket_notification_configuration(Bucket="jobs", NotificationConfiguration={})
    broken = console.json("doctor", "--no-probe", code=1)
    (fault,) = [one for one in broken["findings"] if not one["ok"]]
    assert fault["name"] == "notification rules"
    assert "jobs" in fault["detail"]
    assert fault["fix"] == "penstock doctor --fix"
    fixed = console.json("doctor", "--fix")
    assert fixed["ok"]
    assert any("jobs" in line for line in fixed["changed"])
    assert "Contents" not in s3.list_objects_v2(Bucket="inbox", Prefix=".penstock/")


def test_doctor_fixes_the_password_of_the_reader_role(console):
    other = {"PENSTOCK_READER_PASSWORD": "another-secret"}
    broken = console.json("doctor", "--no-probe", code=1, **other)
    (fault,) = [one for one in broken["findings"] if not one["ok"]]
    assert fault["name"] == "database role penstock_reader"
    assert "another-secret" not in json.dumps(broken)
    assert console.json("doctor", "--no-probe", "--fix", **other)["changed"] == ["role penstock_reader: password set"]
    assert console.json("setup") == {"changed": ["role penstock_reader: password set"]}


def test_setup_again_changes_nothing(console):
    assert console.json("setup") == {"changed": []}
