"""The hasher on real servers: requested digests, verification, reuse, deletion and progress."""

import hashlib
import io
import json

import pytest

from shared.topics import OBJECTS_CHANGED, OBJECTS_HASHED
from tests.support.stores import with_switches
from tests.support.waiting import until
from tests.support.world import SAYS_NO, digests_of

pytestmark = pytest.mark.integration

SETTINGS = {"ingest": {"doubt_seconds": 2, "sweep_interval": 0, "sweep_at_start": False}}
SLOW = "md5,sha1,sha256,sha512,sha3_256,sha3_384,sha3_512,blake2b,blake2s,blake3"


def digests(row):
    return json.loads(row["digests"])


def test_requested_digests_are_computed(world):
    world.put("one", b"bytes", Metadata={"penstock-digests": "sha1,SHA-512"})
    assert digests(world.hashed("one")) == digests_of(b"bytes", ["sha1", "sha512"])


def test_unknown_requested_digest_is_a_failed_row_and_a_dead_letter(world):
    world.put("one", Metadata={"penstock-digests": "md5,sha257"})
    assert "sha257" in world.hashed("one", "failed")["error"]
    dead_letters = until(lambda: world.facts(f"{OBJECTS_CHANGED.name}.hasher.dlq", "one"), 30, "the letter")
    assert [dead_letter.header("dlq_code") for dead_letter in dead_letters] == ["UNKNOWN_DIGEST"]
    assert not world.facts(OBJECTS_HASHED.name, "one")


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("declared_of", [b"bytes", b"other bytes"], ids=["right", "wrong"])
def test_declared_digest_is_verified(world, algorithm, declared_of):
    world.put("one", b"bytes", Metadata={algorithm: hashlib.new(algorithm, declared_of).hexdigest()})
    row = world.hashed("one")
    wrong = declared_of != b"bytes"
    assert row["verification"] == ("mismatch" if wrong else "verified")
    assert row["mismatched"] == ([algorithm] if wrong else [])
    (fact,) = world.facts(OBJECTS_HASHED.name, "one")
    assert fact.body["verification"] == row["verification"]
    if wrong:
        assert '"digest.mismatch"' in world.stack.logs("hasher")


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC32", "CRC32C", "CRC64NVME"])
def test_checksum_of_the_upload_is_verified(world, algorithm):
    world.put("one", b"bytes", ChecksumAlgorithm=algorithm)
    assert world.hashed("one")["verification"] == "verified"


def test_multipart_upload_is_hashed_as_one_object(world):
    body = bytes(range(256)) * (48 << 10)
    world.s3.upload_fileobj(io.BytesIO(body), "inbox", world.prefix + "parts")
    row = world.hashed("parts")
    assert row["etag"].endswith("-2")
    assert digests(row) == digests_of(body)


def test_same_bytes_uploaded_again_are_not_read_again(world):
    world.put("one", b"bytes")
    first = world.hashed("one")
    seeded = digests(first) | {"blake3": "0" * 64}
    statement = "UPDATE hasher.digests SET digests = $1::jsonb WHERE key = $2"
    world.database.rows(statement, json.dumps(seeded), world.prefix + "one")
    world.put("one", b"bytes")
    until(lambda: len(world.facts(OBJECTS_HASHED.name, "one")) == 2, 30, "the second fact")
    again = world.hashed("one")
    assert digests(again) == seeded
    assert again["correlation_id"] != first["correlation_id"]


@pytest.fixture
def may_delete(world):
    with with_switches(world.stack, hasher_delete_after=True, hasher_delete_prefixes=(f"{world.prefix}uploads/",)):
        yield


@pytest.mark.usefixtures("may_delete")
def test_delete_after_deletes_only_uploads_of_the_digest_api(world):
    world.serve("hasher", hasher_delete_after=True, hasher_delete_prefixes=f"{world.prefix}uploads/")
    body = b"bytes"
    others = [("inbox", "files/one"), ("inbox", "uploads2/one"), ("src-data", "uploads/one"), ("jobs", "set/1")]
    for bucket, name in others:
        world.put(name, body, bucket=bucket)
    world.put("uploads/one", body)
    assert digests(world.hashed("uploads/one")) == digests_of(body)
    until(lambda: world.told("uploads/one")["state"] == "removed", 30, lambda: world.told("uploads/one"))
    with pytest.raises(SAYS_NO):
        world.s3.head_object(Bucket="inbox", Key=f"{world.prefix}uploads/one")
    for bucket, name in others:
        assert digests(world.hashed(name, bucket=bucket)) == digests_of(body)
    until(lambda: not any(world.kafka.lag({"hasher": [OBJECTS_CHANGED.name]}).values()), 30, "lag")
    assert digests(world.hashed("uploads/one")) == digests_of(body)
    for bucket, name in others:
        world.s3.head_object(Bucket=bucket, Key=world.prefix + name)


def test_hasher_delay_shows_every_status(world):
    world.serve("hasher", hasher_delay=3)
    world.put("one")
    world.put("two")
    seen = set()

    def done():
        rows = [world.digest(name) for name in ("one", "two")]
        statuses = {row["status"] for row in rows if row is not None}
        seen.update(statuses)
        return statuses == {"succeeded"}

    until(done, 60, lambda: seen)
    assert seen == {"pending", "running", "succeeded"}


def test_large_object_reports_its_progress(world):
    body = world.prefix.encode().ljust(1 << 10) * (512 << 10)
    world.put("large", body, Metadata={"penstock-digests": SLOW})
    seen = []

    def done():
        rows = world.database.rows("SELECT * FROM api.work WHERE starts_with(key, $1)", f"inbox/{world.prefix}")
        if rows and rows[0]["progress"] is not None:
            seen.append(json.loads(rows[0]["progress"]))
        return bool(rows) and rows[0]["state"] == "succeeded"

    until(done, 120, lambda: seen[-3:])
    assert {"bytes", "size", "bytes_per_second", "eta_seconds"} <= set(seen[-1])
    assert any(0 < one["bytes"] < one["size"] == len(body) for one in seen)
    assert digests(world.hashed("large")) == digests_of(body, SLOW.split(","))
