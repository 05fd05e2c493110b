"""What ingest makes of real notifications: one true fact a change, whatever the key, the version or the lie."""

import json
import unicodedata
import uuid

import pytest

from shared.topics import MINIO_LIVE, OBJECTS_CHANGED, OBJECTS_HASHED
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


def drained(world):
    until(
        lambda: not any(world.kafka.lag({"ingest": [MINIO_LIVE.name], "hasher": [OBJECTS_CHANGED.name]}).values()),
        60,
        "lag",
    )


def letter_about(world, name, topic=f"{MINIO_LIVE.name}.ingest.dlq"):
    """Wait for the one dead letter of a record that had this key."""
    return until(
        lambda: [one for one in world.kafka.read(topic) if one.key == name.encode()], 60, f"a letter about {name}"
    )[0]


def notice(bucket, key, etag="0" * 32, size=1, **more):
    """The message that S3 itself would send."""
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


def test_odd_keys_are_the_same_bytes_at_the_end(world):
    oracle = Oracle(world, "odd keys")
    longest = "/".join("k" * 200 for _ in range(6))[: 1024 - len(world.prefix)]
    for name in (*ODD_KEYS, longest):
        world.put(name)
    oracle.judge()
    assert {key for _, key in oracle.listed()} == {world.prefix + name for name in (*ODD_KEYS, longest)}


def test_a_folder_marker_is_nothing(world):
    world.put("folder/", b"")
    world.put("folder/file")
    world.hashed("folder/file")
    drained(world)
    assert world.told("folder/") is None
    assert world.digest("folder/") is None


def test_versions_of_one_key(world):
    bucket = "jobs"
    world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = world.put("one", b"first", bucket=bucket)["VersionId"]
    assert world.hashed("one", bucket=bucket)["version_id"] == first
    second = world.put("one", b"second", bucket=bucket)["VersionId"]
    until(lambda: world.digest("one", bucket=bucket)["version_id"] == second, 30, "the second version")

    world.delete("one", bucket=bucket, VersionId=first)
    until(lambda: _removed(world, bucket) == [first], 30, lambda: _removed(world, bucket))
    drained(world)
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


def test_a_removed_object_leaves_the_view(world):
    world.put("one")
    world.hashed("one")
    world.delete("one")
    until(lambda: world.digest("one") is None, 30, lambda: world.digest("one"))
    stored, removed = world.facts(OBJECTS_CHANGED.name, "one")
    assert removed.body["change"] == "removed"
    assert removed.body["correlation_id"] == stored.body["correlation_id"]


def test_an_event_as_aws_writes_it(world):
    with rules_removed(world, "inbox"):
        etag = world.put("aws key+")["ETag"].strip('"')
        key = world.prefix.replace("/", "%2F") + "aws+key%2B"
        world.kafka.send(MINIO_LIVE.name, notice("inbox", key, etag, 4096), b"aws")
        assert world.hashed("aws key+")["etag"] == etag
    assert world.told("aws key+")["seen_by"] == "live"


def test_a_forged_event_is_a_dead_letter_once_no_removal_explains_it(world):
    forged = f"{world.prefix}forged"
    world.kafka.send(MINIO_LIVE.name, notice("inbox", forged), forged.encode())
    assert letter_about(world, forged).header("dlq_code") == "NO_SUCH_OBJECT"
    assert not world.facts(OBJECTS_CHANGED.name)


def test_an_event_of_a_foreign_bucket_is_a_dead_letter(world):
    key = f"{world.prefix}foreign"
    world.kafka.send(MINIO_LIVE.name, notice("somebody-elses", key), key.encode())
    letter = letter_about(world, key)
    assert letter.header("dlq_code") == "FOREIGN_BUCKET"
    assert "PENSTOCK_INPUT_BUCKETS" in letter.header("dlq_reason")


def test_a_sweep_finds_what_was_stored_before_the_rules(world):
    with world.without("ingest"), rules_removed(world, "src-data"):  # for ingest puts them back
        world.put("one", bucket="src-data")
    assert world.sweep()["missed"] == 1
    world.hashed("one", bucket="src-data")
    assert world.told("one", bucket="src-data")["seen_by"] == "sweep"
    assert world.sweep()["missed"] == 0


def test_a_sweep_of_a_foreign_bucket_is_a_dead_letter(world):
    name = f"test-{uuid.uuid4().hex}"
    world.kafka.send(
        "sweeps.requested.v1", json.dumps({"sweep_id": name, "buckets": ["nobodys"]}).encode(), name.encode()
    )
    assert letter_about(world, name, "sweeps.requested.v1.ingest.dlq").header("dlq_code") == "FOREIGN_BUCKET"


def test_sweeps_come_by_the_clock(world):
    world.stop("ingest")
    with rules_removed(world, "inbox"):
        world.put("one")
    world.serve("ingest", sweep_interval=3, sweep_grace=1)
    world.hashed("one")
    assert world.told("one")["seen_by"] == "sweep"


def test_facts_are_cloud_events_with_one_correlation_id_all_the_way(world):
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
