"""Ingest on real servers: one correct fact per change for odd keys, versions and forged events."""

import json
import unicodedata
import uuid

import pytest

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, OBJECTS_HASHED
from tests.support.oracle import Oracle
from tests.support.waiting import until
from tests.support.world import rules_removed

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


def wait_until_drained(world):
    until(
        lambda: not any(world.kafka.lag({"ingest": [MINIO_LIVE.name], "hasher": [OBJECTS_CHANGED.name]}).values()),
        60,
        "lag",
    )


def dead_letter_about(world, name, topic=f"{MINIO_LIVE.name}.ingest.dlq"):
    """Wait for the one dead letter of the record with this key."""
    return until(
        lambda: [one for one in world.kafka.read(topic) if one.key == name.encode()], 60, f"a letter about {name}"
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


def test_odd_keys_are_unchanged_in_every_view(world):
    oracle = Oracle(world, "odd keys")
    longest = "/".join("k" * 200 for _ in range(6))[: 1024 - len(world.prefix)]
    for name in (*ODD_KEYS, longest):
        world.put(name)
    oracle.judge()
    assert {key for _, key in oracle.listed()} == {world.prefix + name for name in (*ODD_KEYS, longest)}


def test_folder_marker_is_not_published(world):
    world.put("folder/", b"")
    world.put("folder/file")
    world.hashed("folder/file")
    wait_until_drained(world)
    assert world.told("folder/") is None
    assert world.digest("folder/") is None


def test_versions_of_one_key_are_hashed_and_hidden_when_removed(world):
    bucket = "jobs"
    world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = world.put("one", b"first", bucket=bucket)["VersionId"]
    assert world.hashed("one", bucket=bucket)["version_id"] == first
    second = world.put("one", b"second", bucket=bucket)["VersionId"]
    until(lambda: world.digest("one", bucket=bucket)["version_id"] == second, 30, "the second version")

    world.delete("one", bucket=bucket, VersionId=first)
    until(lambda: _removed(world, bucket) == [first], 30, lambda: _removed(world, bucket))
    wait_until_drained(world)
    assert world.hashed("one", bucket=bucket)["version_id"] == second
    assert world.told("one", bucket=bucket)["state"] == "stored"

    world.delete("one", bucket=bucket)
    until(lambda: world.digest("one", bucket=bucket) is None, 30, "a delete marker hides the object")
    assert world.told("one", bucket=bucket)["state"] == "removed"
    told = world.facts(OBJECTS_HASHED.name, "one", bucket=bucket)
    assert [fact.body["version_id"] for fact in told] == [first, second]


def _removed(world, bucket):
    facts = world.facts(OBJECTS_CHANGED.name, "one", bucket=bucket)
    return [fact.body.get("version_id") for fact in facts if fact.body["change"] == "removed"]


def test_removed_object_leaves_the_view(world):
    world.put("one")
    world.hashed("one")
    world.delete("one")
    until(lambda: world.digest("one") is None, 30, lambda: world.digest("one"))
    stored, removed = world.facts(OBJECTS_CHANGED.name, "one")
    assert removed.body["change"] == "removed"
    assert removed.body["correlation_id"] == stored.body["correlation_id"]


def test_event_in_the_format_of_aws_is_accepted(world):
    with rules_removed(world, "inbox"):
        etag = world.put("aws key+")["ETag"].strip('"')
        key = world.prefix.replace("/", "%2F") + "aws+key%2B"
        world.kafka.send(MINIO_LIVE.name, notification("inbox", key, etag, 4096), b"aws")
        assert world.hashed("aws key+")["etag"] == etag
    assert world.told("aws key+")["seen_by"] == "live"


def test_forged_event_is_a_dead_letter_once_due(world):
    forged = f"{world.prefix}forged"
    world.kafka.send(MINIO_LIVE.name, notification("inbox", forged), forged.encode())
    assert dead_letter_about(world, forged).header("dlq_code") == "NO_SUCH_OBJECT"
    assert not world.facts(OBJECTS_CHANGED.name)


def test_event_of_a_foreign_bucket_is_a_dead_letter(world):
    key = f"{world.prefix}foreign"
    world.kafka.send(MINIO_LIVE.name, notification("somebody-elses", key), key.encode())
    dead_letter = dead_letter_about(world, key)
    assert dead_letter.header("dlq_code") == "FOREIGN_BUCKET"
    assert "PENSTOCK_INPUT_BUCKETS" in dead_letter.header("dlq_reason")


def test_sweep_finds_objects_stored_before_the_rules(world):
    with world.without("ingest"), rules_removed(world, "src-data"):  # ingest would restore the rules
        world.put("one", bucket="src-data")
    assert world.sweep()["missed"] == 1
    world.hashed("one", bucket="src-data")
    assert world.told("one", bucket="src-data")["seen_by"] == "sweep"
    assert world.sweep()["missed"] == 0


def test_sweep_of_a_foreign_bucket_is_a_dead_letter(world):
    name = f"test-{uuid.uuid4().hex}"
    world.kafka.send(
        "sweeps.requested.v1", json.dumps({"sweep_id": name, "buckets": ["nobodys"]}).encode(), name.encode()
    )
    assert dead_letter_about(world, name, "sweeps.requested.v1.ingest.dlq").header("dlq_code") == "FOREIGN_BUCKET"


def test_sweeps_run_at_the_interval(world):
    world.stop("ingest")
    with rules_removed(world, "inbox"):
        world.put("one")
    world.serve("ingest", sweep_interval=3, sweep_grace=1)
    world.hashed("one")
    assert world.told("one")["seen_by"] == "sweep"


def test_facts_are_cloud_events_with_one_correlation_id(world):
    world.put("a b/ü")
    row = world.hashed("a b/ü")
    (changed,), (hashed,) = (world.facts(topic.name, "a b/ü") for topic in (OBJECTS_CHANGED, OBJECTS_HASHED))
    ids = {fact.header("correlation_id") for fact in (changed, hashed)} | {row["correlation_id"]}
    assert len(ids) == 1
    assert ids == {changed.body["correlation_id"]}
    for fact, source in ((changed, "ingest"), (hashed, "hasher")):
        assert fact.header("ce_specversion") == "1.0"
        assert fact.header("ce_type") == f"penstock.{fact.topic}"
        assert fact.header("ce_source") == f"/penstock/{source}"
        assert fact.header("ce_subject") == f"inbox/{world.prefix}a b/\\xfc"
        assert fact.header("ce_id")
        assert fact.header("ce_time")
        assert fact.header("content-type") == "application/json"
        assert fact.header("traceparent").split("-")[1] == changed.body["correlation_id"]


@pytest.fixture
def versions(world):
    """Return a bucket with versioning."""
    bucket = "runs"
    world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield bucket
    world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def has_no_dead_letters(world):
    wait_until_drained(world)
    mine = world.prefix.encode()
    return not [one for one in world.kafka.read(f"{MINIO_LIVE.name}.ingest.dlq") if mine in (one.key or b"")]


def is_version(world, bucket, name, version_id):
    """Whether all views show this version of an object."""
    told, digest = world.told(name, bucket=bucket), world.digest(name, bucket=bucket)
    return (
        told is not None
        and (told["state"], told["version_id"]) == ("stored", version_id)
        and digest is not None
        and (digest["status"], digest["version_id"], digest["etag"]) == ("succeeded", version_id, told["etag"])
    )


def test_version_that_is_current_again_is_in_every_view(world, versions):
    first, batch = {}, []
    for name in ("one", "several"):
        first[name] = world.put(name, b"first", bucket=versions)["VersionId"]
        second = world.put(name, b"second", bucket=versions)["VersionId"]
        until(lambda name=name, second=second: is_version(world, versions, name, second), 30, "the second version")
        batch.append({"Key": world.prefix + name, "VersionId": second})
    world.delete("one", bucket=versions, VersionId=batch[0]["VersionId"])
    world.s3.delete_objects(Bucket=versions, Delete={"Objects": batch[1:]})
    for name, version_id in first.items():
        until(
            lambda name=name, version_id=version_id: is_version(world, versions, name, version_id),
            30,
            lambda name=name: (world.told(name, bucket=versions), world.digest(name, bucket=versions)),
        )
    assert has_no_dead_letters(world)


def test_undelete_is_in_every_view(world, versions):
    stored = world.put("one", bucket=versions)["VersionId"]
    world.hashed("one", bucket=versions)
    marker = world.delete("one", bucket=versions)["VersionId"]
    until(lambda: world.told("one", bucket=versions)["state"] == "removed", 30, "the removal")
    world.delete("one", bucket=versions, VersionId=marker)
    until(lambda: is_version(world, versions, "one", stored), 30, lambda: world.told("one", bucket=versions))
    assert has_no_dead_letters(world)


def test_object_from_before_versioning_can_be_undeleted(world):
    bucket = "src-data"
    world.put("old", bucket=bucket)
    world.hashed("old", bucket=bucket)
    world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    try:
        marker = world.delete("old", bucket=bucket)["VersionId"]
        until(lambda: world.told("old", bucket=bucket)["state"] == "removed", 30, "the removal")
        world.delete("old", bucket=bucket, VersionId=marker)
        until(lambda: is_version(world, bucket, "old", None), 30, lambda: world.told("old", bucket=bucket))
        assert has_no_dead_letters(world)
    finally:
        world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def test_removal_of_an_unknown_object_is_not_published(world, versions):
    for bucket in ("inbox", versions):
        world.delete("never", bucket=bucket)
        world.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"{world.prefix}never too"}]})
    assert has_no_dead_letters(world)
    assert not world.facts(OBJECTS_CHANGED.name, bucket="inbox")
    assert world.told("never") is None
    assert world.told("never too") is None


def test_force_deleted_folder_is_found_by_a_sweep_of_the_folder(world):
    for name in ("run/1", "run/2"):
        world.put(name)
        world.hashed(name)
    force_delete(world, "run/")
    world.delete("run/1")  # MinIO notifies that there was nothing to remove
    for name in ("run/1", "run/2"):
        until(lambda name=name: world.told(name)["state"] == "removed", 60, lambda name=name: world.told(name))
    assert has_no_dead_letters(world)


def force_delete(world, folder):
    """Remove a folder as `mc rm --recursive --force` does with a prefix: MinIO sends no notification."""

    def add_header(request, **_):
        request.headers["x-minio-force-delete"] = "true"

    events = world.s3.meta.events
    events.register("before-sign.s3.DeleteObject", add_header)
    try:
        world.delete(folder)
    finally:
        events.unregister("before-sign.s3.DeleteObject", add_header)


def copies(world, lane, name):
    """Count the notifications of an object on one lane."""
    key = f"{world.prefix}{name}".encode()
    return sum(key in (one.key or b"") for one in world.kafka.read(lane.name))


def test_sweep_compares_versions(world, versions):
    first = world.put("one", b"same", bucket=versions)["VersionId"]
    second = world.put("one", b"same", bucket=versions)["VersionId"]
    until(lambda: copies(world, MINIO_SAFE, "one") == copies(world, MINIO_LIVE, "one") == 2, 30, "every notification")
    until(lambda: is_version(world, versions, "one", second), 30, "the second version")
    wait_until_drained(world)
    with world.without("ingest"), rules_removed(world, versions):
        world.delete("one", bucket=versions, VersionId=second)
    assert world.sweep()["missed"] == 1
    until(lambda: is_version(world, versions, "one", first), 30, lambda: world.told("one", bucket=versions))
    assert world.sweep()["missed"] == 0
