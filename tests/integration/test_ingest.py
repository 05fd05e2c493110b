"""Ingest on real servers: one correct fact per change for odd keys, versions and forged events."""

import json
import unicodedata
import uuid

import pytest

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, OBJECTS_HASHED
from tests.support.oracle import Oracle
from tests.support.system import rules_removed
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SETTINGS = {"ingest": {"doubt_seconds": 2, "sweep_interval": 0, "sweep_at_start": False}}
ODD_KEYS = [
    "a blank b.txt",
    "a+b c%2B.txt",
    "%",
    "quo\"te's & <tags>.txt",
    "-rf",
    "$(id);id",
    "\N{GRINNING FACE}/\N{PILE OF POO}.txt",
    unicodedata.normalize("NFC", "é.txt"),
    unicodedata.normalize("NFD", "é.txt"),
    "trailing/",
    "=cmd|'/c calc'!A1",
]


def wait_until_drained(system):
    until(
        lambda: not any(system.kafka.lag({"ingest": [MINIO_LIVE.name], "hasher": [OBJECTS_CHANGED.name]}).values()),
        60,
        "lag",
    )


def dead_letter_about(system, name, topic=f"{MINIO_LIVE.name}.ingest.dlq"):
    """Wait for the one dead letter of the record with this key."""
    return until(
        lambda: [one for one in system.kafka.read(topic) if one.key == name.encode()], 60, f"a letter about {name}"
    )[0]


def notification(bucket, key, etag="0" * 32, size=1, **more):
    """Return the message that AWS S3 would send."""
    described = {"key": key, "size": size, "eTag": etag, "sequencer": "0055AED6DCD90281E5"}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": described,
        },
    }
    return json.dumps({"Records": [record | more]}).encode()


def test_odd_keys_are_unchanged_in_every_view(system):
    oracle = Oracle(system, "odd keys")
    longest = "/".join("k" * 200 for _ in range(6))[: 1024 - len(system.prefix)]
    for name in (*ODD_KEYS, longest):
        system.put(name)
    oracle.judge()
    assert {key for _, key in oracle.listed()} == {system.prefix + name for name in (*ODD_KEYS, longest)}


def test_folder_marker_is_not_published(system):
    system.put("folder/", b"")
    system.put("folder/file")
    system.hashed("folder/file")
    wait_until_drained(system)
    assert system.object_row("folder/") is None
    assert system.digest("folder/") is None


def test_versions_of_one_key_are_hashed_and_hidden_when_removed(system):
    bucket = "jobs"
    system.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = system.put("one", b"first", bucket=bucket)["VersionId"]
    assert system.hashed("one", bucket=bucket)["version_id"] == first
    second = system.put("one", b"second", bucket=bucket)["VersionId"]
    until(lambda: system.digest("one", bucket=bucket)["version_id"] == second, 30, "the second version")

    system.delete("one", bucket=bucket, VersionId=first)
    until(lambda: _removed(system, bucket) == [first], 30, lambda: _removed(system, bucket))
    wait_until_drained(system)
    assert system.hashed("one", bucket=bucket)["version_id"] == second
    assert system.object_row("one", bucket=bucket)["state"] == "stored"

    system.delete("one", bucket=bucket)
    until(lambda: system.digest("one", bucket=bucket) is None, 30, "a delete marker hides the object")
    assert system.object_row("one", bucket=bucket)["state"] == "removed"
    row = system.facts(OBJECTS_HASHED.name, "one", bucket=bucket)
    assert [fact.body["version_id"] for fact in row] == [first, second]


def _removed(system, bucket):
    facts = system.facts(OBJECTS_CHANGED.name, "one", bucket=bucket)
    return [fact.body.get("version_id") for fact in facts if fact.body["change"] == "removed"]


def test_removed_object_leaves_the_view(system):
    system.put("one")
    system.hashed("one")
    system.delete("one")
    until(lambda: system.digest("one") is None, 30, lambda: system.digest("one"))
    stored, removed = system.facts(OBJECTS_CHANGED.name, "one")
    assert removed.body["change"] == "removed"
    assert removed.body["correlation_id"] == stored.body["correlation_id"]


def test_event_in_the_format_of_aws_is_accepted(system):
    with rules_removed(system, "inbox"):
        etag = system.put("aws key+")["ETag"].strip('"')
        key = system.prefix.replace("/", "%2F") + "aws+key%2B"
        system.kafka.send(MINIO_LIVE.name, notification("inbox", key, etag, 4096), b"aws")
        assert system.hashed("aws key+")["etag"] == etag
    assert system.object_row("aws key+")["seen_by"] == "live"


def test_forged_event_is_a_dead_letter_once_due(system):
    forged = f"{system.prefix}forged"
    system.kafka.send(MINIO_LIVE.name, notification("inbox", forged), forged.encode())
    assert dead_letter_about(system, forged).header("dlq_code") == "NO_SUCH_OBJECT"
    assert not system.facts(OBJECTS_CHANGED.name)


def test_event_of_a_foreign_bucket_is_a_dead_letter(system):
    key = f"{system.prefix}foreign"
    system.kafka.send(MINIO_LIVE.name, notification("somebody-elses", key), key.encode())
    dead_letter = dead_letter_about(system, key)
    assert dead_letter.header("dlq_code") == "FOREIGN_BUCKET"
    assert "PENSTOCK_INPUT_BUCKETS" in dead_letter.header("dlq_reason")


def test_sweep_finds_objects_stored_before_the_rules(system):
    with system.without("ingest"), rules_removed(system, "src-data"):  # ingest would restore the rules
        system.put("one", bucket="src-data")
    assert system.sweep()["missed"] == 1
    system.hashed("one", bucket="src-data")
    assert system.object_row("one", bucket="src-data")["seen_by"] == "sweep"
    assert system.sweep()["missed"] == 0


def test_sweep_of_a_foreign_bucket_is_a_dead_letter(system):
    name = f"test-{uuid.uuid4().hex}"
    system.kafka.send(
        "sweeps.requested.v1", json.dumps({"sweep_id": name, "buckets": ["nobodys"]}).encode(), name.encode()
    )
    assert dead_letter_about(system, name, "sweeps.requested.v1.ingest.dlq").header("dlq_code") == "FOREIGN_BUCKET"


def test_sweeps_run_at_the_interval(system):
    system.stop("ingest")
    with rules_removed(system, "inbox"):
        system.put("one")
    system.serve("ingest", sweep_interval=3, sweep_grace=1)
    system.hashed("one")
    assert system.object_row("one")["seen_by"] == "sweep"


def test_facts_are_cloud_events_with_one_correlation_id(system):
    system.put("a b/ü")
    row = system.hashed("a b/ü")
    (changed,), (hashed,) = (system.facts(topic.name, "a b/ü") for topic in (OBJECTS_CHANGED, OBJECTS_HASHED))
    ids = {fact.header("correlation_id") for fact in (changed, hashed)} | {row["correlation_id"]}
    assert len(ids) == 1
    assert ids == {changed.body["correlation_id"]}
    for fact, source in ((changed, "ingest"), (hashed, "hasher")):
        assert fact.header("ce_specversion") == "1.0"
        assert fact.header("ce_type") == f"penstock.{fact.topic}"
        assert fact.header("ce_source") == f"/penstock/{source}"
        assert fact.header("ce_subject") == f"inbox/{system.prefix}a b/\\xfc"
        assert fact.header("ce_id")
        assert fact.header("ce_time")
        assert fact.header("content-type") == "application/json"
        assert fact.header("traceparent").split("-")[1] == changed.body["correlation_id"]


@pytest.fixture
def versions(system):
    """Return a bucket with versioning."""
    bucket = "runs"
    system.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield bucket
    system.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def has_no_dead_letters(system):
    wait_until_drained(system)
    mine = system.prefix.encode()
    return not [one for one in system.kafka.read(f"{MINIO_LIVE.name}.ingest.dlq") if mine in (one.key or b"")]


def is_version(system, bucket, name, version_id):
    """Whether all views show this version of an object."""
    row, digest = system.object_row(name, bucket=bucket), system.digest(name, bucket=bucket)
    return (
        row is not None
        and (row["state"], row["version_id"]) == ("stored", version_id)
        and digest is not None
        and (digest["status"], digest["version_id"], digest["etag"]) == ("succeeded", version_id, row["etag"])
    )


def test_version_that_is_current_again_is_in_every_view(system, versions):
    first, batch = {}, []
    for name in ("one", "several"):
        first[name] = system.put(name, b"first", bucket=versions)["VersionId"]
        second = system.put(name, b"second", bucket=versions)["VersionId"]
        until(lambda name=name, second=second: is_version(system, versions, name, second), 30, "the second version")
        batch.append({"Key": system.prefix + name, "VersionId": second})
    system.delete("one", bucket=versions, VersionId=batch[0]["VersionId"])
    system.s3.delete_objects(Bucket=versions, Delete={"Objects": batch[1:]})
    for name, version_id in first.items():
        until(
            lambda name=name, version_id=version_id: is_version(system, versions, name, version_id),
            30,
            lambda name=name: (system.object_row(name, bucket=versions), system.digest(name, bucket=versions)),
        )
    assert has_no_dead_letters(system)


def test_undelete_is_in_every_view(system, versions):
    stored = system.put("one", bucket=versions)["VersionId"]
    system.hashed("one", bucket=versions)
    marker = system.delete("one", bucket=versions)["VersionId"]
    until(lambda: system.object_row("one", bucket=versions)["state"] == "removed", 30, "the removal")
    system.delete("one", bucket=versions, VersionId=marker)
    until(lambda: is_version(system, versions, "one", stored), 30, lambda: system.object_row("one", bucket=versions))
    assert has_no_dead_letters(system)


def test_object_from_before_versioning_can_be_undeleted(system):
    bucket = "src-data"
    system.put("old", bucket=bucket)
    system.hashed("old", bucket=bucket)
    system.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    try:
        marker = system.delete("old", bucket=bucket)["VersionId"]
        until(lambda: system.object_row("old", bucket=bucket)["state"] == "removed", 30, "the removal")
        system.delete("old", bucket=bucket, VersionId=marker)
        until(lambda: is_version(system, bucket, "old", None), 30, lambda: system.object_row("old", bucket=bucket))
        assert has_no_dead_letters(system)
    finally:
        system.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def test_removal_of_an_unknown_object_is_not_published(system, versions):
    for bucket in ("inbox", versions):
        system.delete("never", bucket=bucket)
        system.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"{system.prefix}never too"}]})
    assert has_no_dead_letters(system)
    assert not system.facts(OBJECTS_CHANGED.name, bucket="inbox")
    assert system.object_row("never") is None
    assert system.object_row("never too") is None


def test_force_deleted_folder_is_found_by_a_sweep_of_the_folder(system):
    for name in ("run/1", "run/2"):
        system.put(name)
        system.hashed(name)
    force_delete(system, "run/")
    system.delete("run/1")  # MinIO notifies that there was nothing to remove
    for name in ("run/1", "run/2"):
        until(
            lambda name=name: system.object_row(name)["state"] == "removed",
            60,
            lambda name=name: system.object_row(name),
        )
    assert has_no_dead_letters(system)


def force_delete(system, folder):
    """Remove a folder as `mc rm --recursive --force` does with a prefix: MinIO sends no notification."""

    def add_header(request, **_):
        request.headers["x-minio-force-delete"] = "true"

    events = system.s3.meta.events
    events.register("before-sign.s3.DeleteObject", add_header)
    try:
        system.delete(folder)
    finally:
        events.unregister("before-sign.s3.DeleteObject", add_header)


def copies(system, lane, name):
    """Count the notifications of an object on one lane."""
    key = f"{system.prefix}{name}".encode()
    return sum(key in (one.key or b"") for one in system.kafka.read(lane.name))


def test_sweep_compares_versions(system, versions):
    first = system.put("one", b"same", bucket=versions)["VersionId"]
    second = system.put("one", b"same", bucket=versions)["VersionId"]
    until(lambda: copies(system, MINIO_SAFE, "one") == copies(system, MINIO_LIVE, "one") == 2, 30, "every notification")
    until(lambda: is_version(system, versions, "one", second), 30, "the second version")
    wait_until_drained(system)
    with system.without("ingest"), rules_removed(system, versions):
        system.delete("one", bucket=versions, VersionId=second)
    assert system.sweep()["missed"] == 1
    until(lambda: is_version(system, versions, "one", first), 30, lambda: system.object_row("one", bucket=versions))
    assert system.sweep()["missed"] == 0
