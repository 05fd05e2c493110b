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

LETTERS = "objects.changed.v1.hasher.dlq"


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
    """The console, with a record of what runs as a supervisor writes it."""
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
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def prefix():
    return f"cli-{uuid.uuid4().hex[:8]}"


def test_a_folder_is_stored_and_its_digests_are_shown(console):
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


def test_a_file_that_cannot_be_stored_is_named_and_the_others_go_on(console, s3):
    box = console.folder / "box"
    box.mkdir()
    (box / "good").write_text("1")
    (box / "bad\x1b[2J").write_text("1")
    where = prefix()
    out, err = console.run("put", "box/", f"s3://inbox/{where}", code=1)
    assert out == f"s3://inbox/{where}/good  1 B\n"
    assert r"bad\x1b[2J has control or bidi characters" in err
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="inbox", Prefix=where)["Contents"]] == [f"{where}/good"]


def open_parts(s3, key):
    """Return the numbers of the parts that an open upload of `key` has; None when there is none."""
    uploads = s3.list_multipart_uploads(Bucket="inbox", Prefix=key).get("Uploads")
    if not uploads:
        return None
    parts = s3.list_parts(Bucket="inbox", Key=key, UploadId=uploads[0]["UploadId"])
    return {part["PartNumber"]: part["LastModified"] for part in parts.get("Parts", ())}


@pytest.mark.parametrize("changed", [False, True])
def test_a_killed_upload_goes_on_where_it_stopped_and_leaves_no_garbage(console, s3, changed):
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
    assert "going on where an earlier run stopped" in err
    assert open_parts(s3, key) is None
    assert had
    body = s3.get_object(Bucket="inbox", Key=key)["Body"]
    assert hashlib.sha256(body.read()).digest() == hashlib.sha256(big.read_bytes()).digest()
    assert list((console.folder / "journal").iterdir()) == []


def test_an_interrupted_command_says_what_goes_on(console):
    process = console.start("watch")
    wait_for(lambda: "watching" in process.stderr.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the services work on" in err


async def _note_failure(stack, key, etag):
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


def test_the_exit_code_of_digest_is_the_objects_state(console, spine, s3):
    key = prefix()
    assert console.json("digest", f"s3://inbox/{key}", code=4)["status"] == "unknown"
    spine.stop("hasher")
    try:
        etag = s3.put_object(Bucket="inbox", Key=key, Body=b"1")["ETag"].strip('"')
        assert console.json("digest", f"s3://inbox/{key}", code=3)["status"] == "pending"
        failing = f"{key}-failing"
        s3.put_object(Bucket="inbox", Key=failing, Body=b"1")
        asyncio.run(_note_failure(spine, failing, etag))
        out, _ = console.run("digest", f"s3://inbox/{failing}", code=1)
        assert "failed: the disk of x is on fire" in out
    finally:
        spine.start("hasher")
    assert console.json("digest", f"s3://inbox/{key}", "--wait", "60")["status"] == "succeeded"
    found = console.json("digest", f"s3://inbox/{key}")
    s3.delete_object(Bucket="inbox", Key=key)
    until(lambda: asyncio.run(_is_hidden(spine, key)), 60, "the hasher knows that it was removed")
    removed = console.json("digest", f"s3://inbox/{key}")
    assert (removed["status"], removed["digests"]) == ("succeeded", found["digests"])
    assert "removed since" in removed["remark"]
    s3.put_object(Bucket="results", Key=key, Body=b"1")
    assert "no input" in console.json("digest", f"s3://results/{key}", code=4)["remark"]


def test_watch_shows_facts_as_they_happen(console, s3):
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


def test_status_tells_what_runs_and_what_waits(console):
    found = console.json("status")
    assert {one["name"]: one["state"] for one in found["processes"]} == dict.fromkeys(
        ("kafka", "minio", "postgres", "ingest", "hasher"), "running"
    )
    assert all({"name", "pid", "state", "restarts"} <= set(one) for one in found["processes"])
    assert set(found["lag"]) == {"ingest", "hasher", "etl", "ingress"}
    assert found["lag"]["hasher"].keys() == {"objects.changed.v1"}
    assert found["dead_letters"].keys() >= {LETTERS}
    assert found["errors"] == {}


def test_a_server_that_is_down_costs_its_own_part_only(console):
    found = console.json("status", code=1, PENSTOCK_KAFKA_PORT="1")
    assert found["lag"] is None
    assert found["dead_letters"] is None
    assert found["queues"] is not None
    assert "Kafka at 127.0.0.1:1 does not answer" in found["errors"]["lag"]
    _, err = console.run("dlq", "list", code=1, PENSTOCK_KAFKA_PORT="1")
    assert err.count("\n") == 1


def test_a_sweep_answers_with_its_counts(console):
    found = console.json("sweep", "inbox", "--timeout", "60")
    assert found["buckets"] == ["inbox"]
    assert found["listed"] >= 0
    assert console.json("status")["notification_loss"]["sweeps"] >= 1


async def _poison(stack, body):
    producer = AIOKafkaProducer(bootstrap_servers=stack.env["PENSTOCK_KAFKA_BOOTSTRAP"])
    await producer.start()
    await producer.send_and_wait("objects.changed.v1", body, key=b"inbox/\x1b[2J", headers=[("mine", b"1")])
    await producer.stop()


def test_a_dead_letter_is_found_replayed_until_it_is_enough_and_discarded(console, spine):
    def dead_letters():
        found = console.json("dlq", "list", "--each", "--code", "BAD_EVENT")["letters"]
        return [one for one in found if one["key"] == "inbox/\x1b[2J"]

    console.run("dlq", "discard", "--all")
    asyncio.run(_poison(spine, b"\x1b[31m no json"))
    (dead_letter,) = wait_for(dead_letters)
    assert (dead_letter["attempts"], dead_letter["service"]) == (1, "hasher")

    out, _ = console.run("dlq", "show", dead_letter["letter"])
    assert "\x1b" not in out
    assert r"\x1b[31m no json" in out
    assert console.json("dlq", "replay", dead_letter["letter"], "--dry-run")["replayed"] == [dead_letter["letter"]]
    assert dead_letters() == [dead_letter]

    for attempts in (2, 3):
        console.run("dlq", "replay", "--code", "BAD_EVENT")
        wait_for(lambda: [one["attempts"] for one in dead_letters()] == [attempts])  # noqa: B023 - called at once
    held = console.json("dlq", "replay", "--all", code=1)
    assert (held["replayed"], len(held["held"])) == ([], 1)
    shown = console.json("dlq", "show", held["held"][0])
    assert shown["headers"]["mine"] == "1"
    assert shown["origin_topic"] == "objects.changed.v1"

    assert console.json("dlq", "discard", "--all")["discarded"] == held["held"]
    assert dead_letters() == []
    assert console.json("status")["dead_letters"][LETTERS] == 0
    console.run("dlq", "discard", held["held"][0], code=1)


def test_the_doctor_finds_what_is_missing_and_mends_it(console, s3):
    well = console.json("doctor")
    assert well["ok"], [one for one in well["findings"] if not one["ok"]]
    s3.put_bucket_notification_configuration(Bucket="jobs", NotificationConfiguration={})
    ill = console.json("doctor", "--no-probe", code=1)
    (fault,) = [one for one in ill["findings"] if not one["ok"]]
    assert fault["name"] == "notification rules"
    assert "jobs" in fault["detail"]
    assert fault["fix"] == "penstock doctor --fix"
    mended = console.json("doctor", "--fix")
    assert mended["ok"]
    assert any("jobs" in line for line in mended["changed"])
    assert "Contents" not in s3.list_objects_v2(Bucket="inbox", Prefix=".penstock/")


def test_the_doctor_mends_the_role_that_reads(console):
    other = {"PENSTOCK_READER_PASSWORD": "another-secret"}
    ill = console.json("doctor", "--no-probe", code=1, **other)
    (fault,) = [one for one in ill["findings"] if not one["ok"]]
    assert fault["name"] == "database role penstock_reader"
    assert "another-secret" not in json.dumps(ill)
    assert console.json("doctor", "--no-probe", "--fix", **other)["changed"] == ["role penstock_reader: password set"]
    assert console.json("setup") == {"changed": ["role penstock_reader: password set"]}


def test_set_up_twice_changes_nothing(console):
    assert console.json("setup") == {"changed": []}
