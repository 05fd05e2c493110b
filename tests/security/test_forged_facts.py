"""Facts and notifications that say what is not so: in the end every view says what the bucket holds."""

import json
import time

import pytest

from shared.topics import MINIO_LIVE, OBJECTS_CHANGED, OBJECTS_HASHED
from tests.support.etl import BUCKET
from tests.support.system import digests_of
from tests.support.uploads import pair
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SETTINGS = {"ingest": {"doubt_seconds": 2, "sweep_interval": 0, "sweep_at_start": False}}
OTHER = digests_of(b"other", ["md5"])["md5"]
CHANGES = (
    {"revision": (1 << 63) - 1},
    {"etag": OTHER},
    {"size": 9 << 20},
    {"size": 0},
    {"metadata": {"md5": "0" * 32, "penstock-digests": "crc32"}},
    {"version_id": "6f1c1e62-2b05-4d54-8f6a-5e4d44d3e9aa"},
    {"change": "removed", "etag": None, "size": None},
    {"change": "removed", "etag": OTHER, "version_id": "6f1c1e62-2b05-4d54-8f6a-5e4d44d3e9aa"},
    {"correlation_id": "forged"},
)
NOTIFICATIONS = (
    {"eTag": OTHER},
    {"size": 1},
    {"userMetadata": {"X-Amz-Meta-Owner": "forged"}},
    {"contentType": "forged/type"},
    {"versionId": "6f1c1e62-2b05-4d54-8f6a-5e4d44d3e9aa"},
    {"sequencer": "F" * 16},
)


def test_views_say_what_the_bucket_holds_whatever_is_forged(system):
    system.serve("ingest")
    system.serve("hasher")
    names = [f"{number:02}" for number in range(len(CHANGES))]
    for name in names:
        system.put(name, Metadata={"owner": "me"}, ContentType="text/plain")
    for name in names:
        system.hashed(name)
    _forge(system, names)
    _settled(system)
    for name in names[::2]:  # what was forged outdates no later change
        system.put(name, f"newer {name}".encode(), Metadata={"owner": "me too"})
    _forge_notifications(system, names)
    _settled(system)
    system.sweep()
    until(lambda: not _wrong(system, names), 60, lambda: _wrong(system, names), every=1.0)


def test_table_shows_digests_of_the_hasher_whatever_a_forged_fact_says(system, users):
    system.serve("ingest")
    system.serve("hasher")
    users.serve()
    uploads = pair("1000")
    users.put(*uploads)
    (image,) = (upload for upload in uploads if upload.image)
    right = [digests_of(image.body, ["sha256"])["sha256"]]
    until(lambda: _image_digests(users) == right, 60, lambda: _image_digests(users))
    (fact,) = (one.body for one in system.facts(OBJECTS_HASHED.name, image.name, bucket=BUCKET))
    forged = {"revision": int((time.time() + 600) * 1e6), "digests": {"sha256": "0" * 64}}
    system.kafka.send(OBJECTS_HASHED.name, json.dumps(fact | forged).encode(), f"{BUCKET}/{fact['key']}".encode())
    until(lambda: not any(system.kafka.lag({"etl": [OBJECTS_HASHED.name]}).values()), 60, "lag")
    assert _image_digests(users) == right


def _image_digests(users):
    return [row["img_sha256"] for row in users.table("img_sha256")]


def _forge(system, names):
    """Forge each field of some object, each with a revision within the tolerance of clocks."""
    ahead = int((time.time() + 600) * 1e6)
    facts = {fact.body["key"]: fact.body for fact in system.facts(OBJECTS_CHANGED.name)}
    for name, change in zip(names, CHANGES, strict=True):
        fact = facts[system.prefix + name] | {"revision": ahead} | change
        system.kafka.send(OBJECTS_CHANGED.name, json.dumps(fact).encode(), f"inbox/{fact['key']}".encode())


def _forge_notifications(system, names):
    for number, odd in enumerate(NOTIFICATIONS):
        key = system.prefix + names[number]
        described = {"key": key, "size": 5, "eTag": OTHER, "sequencer": f"{time.time_ns() + 10**12:016X}"} | odd
        for event in ("s3:ObjectCreated:Put", "s3:ObjectRemoved:Delete"):
            notice = {
                "eventName": event,
                "eventTime": "2026-01-01T00:00:00Z",
                "s3": {"bucket": {"name": "inbox"}, "object": described},
            }
            system.kafka.send(MINIO_LIVE.name, json.dumps({"Records": [notice]}).encode(), f"inbox/{key}".encode())


def _settled(system):
    groups = {"ingest": [MINIO_LIVE.name], "hasher": [OBJECTS_CHANGED.name]}
    until(lambda: not any(system.kafka.lag(groups).values()), 60, "lag")
    until(lambda: not system.database.rows("SELECT FROM ingest.doubts LIMIT 1"), 60, "doubts", every=0.5)


def _wrong(system, names):
    return {name: found for name in names if (found := _difference(system, name))}


def _difference(system, name):
    answer = system.s3.get_object(Bucket="inbox", Key=system.prefix + name)
    etag, body = answer["ETag"].strip('"'), answer["Body"].read()
    row, digests = system.object_row(name), _digests(system, name)
    object_ = ("stored", etag, len(body), answer["Metadata"], answer["ContentType"], None)
    columns = ("state", "etag", "size", "metadata", "content_type", "version_id")
    known = row and tuple(json.loads(row[name]) if name == "metadata" else row[name] for name in columns)
    # boto3 sends a checksum along, which the store keeps
    right = [(etag, len(body), "succeeded", digests_of(body), "verified")]
    return (known != object_ and (known, object_)) or (digests != right and (digests, right))


def _digests(system, name):
    rows = system.database.rows(
        "SELECT etag, size, status, digests, verification FROM api.digests WHERE bucket = 'inbox' AND key = $1",
        system.prefix + name,
    )
    return [(row["etag"], row["size"], row["status"], json.loads(row["digests"]), row["verification"]) for row in rows]
