"""The hasher on real servers: requested digests, verification, reuse, deletion and progress."""

import hashlib
import io
import json

import pytest

from shared.topics import OBJECTS_CHANGED, OBJECTS_HASHED
from tests.support.stores import with_switches
from tests.support.system import STORE_ERRORS, digests_of
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SETTINGS = {"ingest": {"doubt_seconds": 2, "sweep_interval": 0, "sweep_at_start": False}}
SLOW = "md5,sha1,sha256,sha512,sha3_256,sha3_384,sha3_512,blake2b,blake2s,blake3"


def digests(row):
    return json.loads(row["digests"])


def test_requested_digests_are_computed(system):
    system.put("one", b"bytes", Metadata={"penstock-digests": "sha1,SHA-512"})
    assert digests(system.hashed("one")) == digests_of(b"bytes", ["sha1", "sha512"])


def test_unknown_requested_digest_is_a_failed_row_and_a_dead_letter(system):
    system.put("one", Metadata={"penstock-digests": "md5,sha257"})
    assert "sha257" in system.hashed("one", "failed")["error"]
    dead_letters = until(lambda: system.facts(f"{OBJECTS_CHANGED.name}.hasher.dlq", "one"), 30, "the letter")
    assert [dead_letter.header("dlq_code") for dead_letter in dead_letters] == ["UNKNOWN_DIGEST"]
    assert not system.facts(OBJECTS_HASHED.name, "one")


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("declared_of", [b"bytes", b"other bytes"], ids=["right", "wrong"])
def test_declared_digest_is_verified(system, algorithm, declared_of):
    system.put("one", b"bytes", Metadata={algorithm: hashlib.new(algorithm, declared_of).hexdigest()})
    row = system.hashed("one")
    wrong = declared_of != b"bytes"
    assert row["verification"] == ("mismatch" if wrong else "verified")
    assert row["mismatched"] == ([algorithm] if wrong else [])
    (fact,) = system.facts(OBJECTS_HASHED.name, "one")
    assert fact.body["verification"] == row["verification"]
    if wrong:
        assert '"digest.mismatch"' in system.stack.logs("hasher")


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC32", "CRC32C", "CRC64NVME"])
def test_checksum_of_the_upload_is_verified(system, algorithm):
    system.put("one", b"bytes", ChecksumAlgorithm=algorithm)
    assert system.hashed("one")["verification"] == "verified"


def test_multipart_upload_is_hashed_as_one_object(system):
    body = bytes(range(256)) * (48 << 10)
    system.s3.upload_fileobj(io.BytesIO(body), "inbox", system.prefix + "parts")
    row = system.hashed("parts")
    assert row["etag"].endswith("-2")
    assert digests(row) == digests_of(body)


def test_same_bytes_uploaded_again_are_not_read_again(system):
    system.put("one", b"bytes")
    first = system.hashed("one")
    seeded = digests(first) | {"blake3": "0" * 64}
    statement = "UPDATE hasher.digests SET digests = $1::jsonb WHERE key = $2"
    system.database.rows(statement, json.dumps(seeded), system.prefix + "one")
    system.put("one", b"bytes")
    until(lambda: len(system.facts(OBJECTS_HASHED.name, "one")) == 2, 30, "the second fact")
    again = system.hashed("one")
    assert digests(again) == seeded
    assert again["correlation_id"] != first["correlation_id"]


@pytest.fixture
def may_delete(system):
    with with_switches(system.stack, hasher_delete_after=True, hasher_delete_prefixes=(f"{system.prefix}uploads/",)):
        yield


@pytest.mark.usefixtures("may_delete")
def test_delete_after_deletes_only_uploads_of_the_digest_api(system):
    system.serve("hasher", hasher_delete_after=True, hasher_delete_prefixes=f"{system.prefix}uploads/")
    body = b"bytes"
    others = [("inbox", "files/one"), ("inbox", "uploads2/one"), ("src-data", "uploads/one"), ("jobs", "set/1")]
    for bucket, name in others:
        system.put(name, body, bucket=bucket)
    system.put("uploads/one", body)
    assert digests(system.hashed("uploads/one")) == digests_of(body)
    until(lambda: system.object_row("uploads/one")["state"] == "removed", 30, lambda: system.object_row("uploads/one"))
    with pytest.raises(STORE_ERRORS):
        system.s3.head_object(Bucket="inbox", Key=f"{system.prefix}uploads/one")
    for bucket, name in others:
        assert digests(system.hashed(name, bucket=bucket)) == digests_of(body)
    until(lambda: not any(system.kafka.lag({"hasher": [OBJECTS_CHANGED.name]}).values()), 30, "lag")
    assert digests(system.hashed("uploads/one")) == digests_of(body)
    for bucket, name in others:
        system.s3.head_object(Bucket=bucket, Key=system.prefix + name)


def test_hasher_delay_shows_every_status(system):
    system.serve("hasher", hasher_delay=3)
    system.put("one")
    system.put("two")
    seen = set()

    def done():
        rows = [system.digest(name) for name in ("one", "two")]
        statuses = {row["status"] for row in rows if row is not None}
        seen.update(statuses)
        return statuses == {"succeeded"}

    until(done, 60, lambda: seen)
    assert seen == {"pending", "running", "succeeded"}


def test_large_object_reports_its_progress(system):
    body = system.prefix.encode().ljust(1 << 10) * (512 << 10)
    system.put("large", body, Metadata={"penstock-digests": SLOW})
    seen = []

    def done():
        rows = system.database.rows("SELECT * FROM api.work WHERE starts_with(key, $1)", f"inbox/{system.prefix}")
        if rows and rows[0]["progress"] is not None:
            seen.append(json.loads(rows[0]["progress"]))
        return bool(rows) and rows[0]["state"] == "succeeded"

    until(done, 120, lambda: seen[-3:])
    assert {"bytes", "size", "bytes_per_second", "eta_seconds"} <= set(seen[-1])
    assert any(0 < one["bytes"] < one["size"] == len(body) for one in seen)
    assert digests(system.hashed("large")) == digests_of(body, SLOW.split(","))
