"""Records that anybody with Kafka could write: each is one dead letter at once, and holds up nothing."""

import json
import uuid

import pytest

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, SWEEPS_REQUESTED
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SETTINGS = {
    "ingest": {"doubt_seconds": 2, "sweep_interval": 0, "sweep_at_start": False},
    "hasher": {"hasher_wait_for_object": 0},
}
LARGE = 9 << 20
FACT = {"change": "stored", "bucket": "inbox", "key": "poison", "size": 5, "etag": "e" * 32, "revision": 1}
POISON = {
    "bucket with a query": {"bucket": "inbox?x"},
    "large, bucket with a query": {"bucket": "inbox?x", "size": LARGE},
    "bucket with an escape": {"bucket": "inbox%3fx"},
    "bucket with a folder": {"bucket": "inbox/../staging"},
    "bucket with a header": {"bucket": "inbox\r\nx: y"},
    "bucket of nobody": {"bucket": "nobodys-bucket"},
    "bucket of outputs": {"bucket": "results", "size": LARGE},
    "no bucket": {"bucket": ""},
    "long bucket": {"bucket": "b" * 100_000},
    "no key": {"key": ""},
    "NUL in the key": {"key": "a\0b"},
    "long key": {"key": "k" * 1025},
    "key that climbs": {"key": "../../staging/a"},
    "key of dots": {"key": "a/./b", "size": LARGE},
    "version with a query": {"version_id": "x y&acl"},
    "version with a header": {"version_id": "v\r\nx: y"},
    "long version": {"version_id": "v" * 10_000},
    "etag with a header": {"etag": 'e"\r\nx-amz-copy-source: /staging/a'},
    "etag of no ASCII": {"etag": "\u20ac" * 32},
    "largest size": {"size": (1 << 63) - 1},
    "negative size": {"size": -1},
    "many digests": {"metadata": {"penstock-digests": ",".join(f"md{n}" for n in range(20_000))}},
    "NUL in metadata": {"metadata": {"a": "\0"}},
    "long content type": {"content_type": "x" * 100_000},
    "long correlation": {"correlation_id": "c" * 500_000},
    "correlation with a header": {"correlation_id": "c\r\nx: y"},
    "sequencer of no hex": {"sequencer": "later"},
    "long sequencer": {"sequencer": "F" * 10_000},
    "revision of the end": {"revision": (1 << 63) - 1},
    "revision beyond 64 bits": {"revision": 1 << 80},
    "negative revision": {"revision": -1},
    "time before all times": {"occurred_at": "0001-01-01T00:00:00+14:00"},
    "time after all times": {"occurred_at": "9999-12-31T23:59:59-14:00"},
}
NOTIFICATIONS = {
    "bucket with a query": ("inbox?x", {"key": "a"}),
    "key that climbs": ("inbox", {"key": "../../staging/a"}),
    "long key": ("inbox", {"key": "k" * 1025}),
    "version with a query": ("inbox", {"key": "a", "versionId": "x y&acl"}),
    "long version": ("inbox", {"key": "a", "versionId": "v" * 10_000}),
    "sequencer of no hex": ("inbox", {"key": "a", "sequencer": "later"}),
    "etag with a header": ("inbox", {"key": "a", "eTag": "e\r\nx: y"}),
}


def test_each_poisoned_fact_is_one_dead_letter_and_holds_up_nothing(system):
    system.serve("ingest")
    system.serve("hasher")
    system.put("before")
    system.hashed("before")
    records = {name: f"poison-{uuid.uuid4().hex}" for name in POISON}
    system.kafka.send_all(
        (OBJECTS_CHANGED.name, records[name].encode(), json.dumps(FACT | odd).encode(), ())
        for name, odd in POISON.items()
    )
    system.put("after")
    system.put("large", b"x" * LARGE)
    system.hashed("after")
    system.hashed("large")
    _await_letters(system, f"{OBJECTS_CHANGED.name}.hasher.dlq", records)
    until(lambda: not any(system.kafka.lag({"hasher": [OBJECTS_CHANGED.name]}).values()), 30, "lag of the hasher")


@pytest.mark.parametrize("topic", [MINIO_LIVE.name, MINIO_SAFE.name])
def test_each_poisoned_notification_is_one_dead_letter_and_holds_up_nothing(system, topic):
    system.serve("ingest")
    system.serve("hasher")
    records = {name: f"poison-{uuid.uuid4().hex}" for name in NOTIFICATIONS}
    system.kafka.send_all(
        (topic, records[name].encode(), json.dumps({"Records": [_notice(*odd)]}).encode(), ())
        for name, odd in NOTIFICATIONS.items()
    )
    system.put("after")
    system.hashed("after")
    _await_letters(system, f"{topic}.ingest.dlq", records)


def test_a_request_of_many_buckets_is_refused_and_a_repeated_bucket_is_swept_once(system):
    system.serve("ingest")
    huge = {"sweep_id": system.prefix, "buckets": ["inbox"] * 100_000}
    system.kafka.send(SWEEPS_REQUESTED.name, json.dumps(huge).encode(), system.prefix.encode())
    _await_letters(system, f"{SWEEPS_REQUESTED.name}.ingest.dlq", {"huge": system.prefix})
    twice = {"sweep_id": f"{system.prefix}twice", "buckets": ["inbox", "inbox"], "prefix": system.prefix}
    system.put("one")
    system.kafka.send(SWEEPS_REQUESTED.name, json.dumps(twice).encode())
    rows = "SELECT listed, buckets FROM api.sweeps WHERE sweep_id = $1 AND finished_at IS NOT NULL"
    (row,) = until(lambda: system.database.rows(rows, twice["sweep_id"]), 60, "sweep")
    assert (row["listed"], row["buckets"]) == (1, ["inbox"])


def _notice(bucket, described):
    return {
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": "2026-01-01T00:00:00Z",
        "s3": {"bucket": {"name": bucket}, "object": {"size": 5, "eTag": "e" * 32} | described},
    }


def _await_letters(system, topic, records):
    """Wait until there is exactly one dead letter of each record, by its key."""

    def missing():
        keys = [(dead_letter.key or b"").decode() for dead_letter in system.kafka.read(topic)]
        return {name: keys.count(key) for name, key in records.items() if keys.count(key) != 1}

    until(lambda: not missing(), 60, missing, every=1.0)
