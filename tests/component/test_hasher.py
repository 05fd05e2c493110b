"""The hasher on a test broker: changes in, digests out, each version read once."""

import hashlib

import pytest

from services.hasher.app import build_app
from services.hasher.settings import HasherSettings
from shared.errors import Kind, Outage, Rejected, kind_of
from shared.events import ObjectChanged, ObjectHashed
from shared.storage import ObjectRef
from shared.testing.bus import record, record_of
from shared.topics import OBJECTS_CHANGED
from shared.work import Lease

MD5, SHA256, SHA512 = (hashlib.new(name, b"hello").hexdigest() for name in ("md5", "sha256", "sha512"))


def facts(hasher):
    return hasher.recorder.events(ObjectHashed)


async def deliver(hasher, *changes):
    await hasher.wired.deliver(*map(record_of, changes))


async def test_stored_object_has_digests_in_the_ledger_and_on_the_topic(hasher):
    stored = await hasher.put("a")
    await deliver(hasher, stored)
    (fact,) = facts(hasher)
    assert (fact.digests["md5"], fact.digests["sha256"], set(fact.digests)) == (
        MD5,
        SHA256,
        {"md5", "sha256", "blake3"},
    )
    assert (fact.etag, fact.size, fact.verification) == (stored.etag, 5, None)
    assert fact.correlation_id == stored.correlation_id
    assert (hasher.ledger["a"].status, hasher.ledger["a"].digests) == ("succeeded", fact.digests)


async def test_duplicate_is_republished_under_the_same_id_without_reading(hasher):
    stored = await hasher.put("a")
    await deliver(hasher, stored, stored)
    await deliver(hasher, stored)
    assert len({one.headers["ce_id"] for one in hasher.recorder.published}) == 1
    assert hasher.store.reads == 1


async def test_same_bytes_uploaded_again_are_not_read_again(hasher):
    await deliver(hasher, await hasher.put("a"))
    await deliver(hasher, await hasher.put("a"))
    assert hasher.store.reads == 1
    assert [one.digests["md5"] for one in facts(hasher)] == [MD5, MD5]


async def test_same_bytes_with_other_requested_digests_are_read_again(hasher):
    await deliver(hasher, await hasher.put("a"))
    await deliver(hasher, await hasher.put("a", metadata={"penstock-digests": "SHA-512, md5"}))
    assert facts(hasher)[-1].digests == {"sha512": SHA512, "md5": MD5}


async def test_object_overwritten_before_reading_is_superseded(hasher):
    first = await hasher.put("a", b"one")
    await hasher.put("a", b"other")
    await deliver(hasher, first)
    assert (hasher.ledger["a"].status, facts(hasher)) == ("superseded", [])
    assert hasher.recorder.dead_letters() == []


async def test_only_the_newest_change_of_a_batch_is_read_and_a_later_older_one_is_ignored(hasher):
    first, second = await hasher.put("a", b"one"), await hasher.put("a", b"other")
    await deliver(hasher, second, first)
    await deliver(hasher, first)
    assert [one.size for one in facts(hasher)] == [5]
    assert hasher.ledger["a"].status == "succeeded"


async def test_object_deleted_before_reading_is_gone(hasher):
    stored = await hasher.put("a")
    await hasher.delete("a")
    await deliver(hasher, stored)
    assert (hasher.ledger["a"].status, facts(hasher), hasher.recorder.dead_letters()) == ("gone", [], [])


async def test_object_missing_at_first_is_read_once_it_is_stored(late_hasher, monkeypatch):
    stored = await late_hasher.put("a")
    read, requested = late_hasher.store.read, []

    async def missing_at_first(ref, **options):
        requested.append(ref)
        return await read(ref if len(requested) > 1 else ObjectRef("inbox", "not yet"), **options)

    monkeypatch.setattr(late_hasher.store, "read", missing_at_first)
    monkeypatch.setattr("services.hasher.adapters.objects.POLL_SECONDS", 0.0)
    await deliver(late_hasher, stored)
    assert late_hasher.ledger["a"].status == "succeeded"


async def test_removal_hides_the_digests(hasher):
    await deliver(hasher, await hasher.put("a"), await hasher.put("b"))
    await deliver(hasher, await hasher.delete("a"))
    assert [key for (_, key, _), row in hasher.ledger.rows.items() if row.current] == ["b"]


async def test_unknown_requested_digest_is_a_failed_row_and_a_dead_letter(hasher):
    unknown = await hasher.put("odd", metadata={"penstock-digests": "md5 rot13"})
    await deliver(hasher, unknown, await hasher.put("fine"))
    assert hasher.ledger["odd"].status == "failed"
    assert "rot13" in str(hasher.ledger["odd"].failure)
    assert hasher.recorder.dead_letter_codes() == ["UNKNOWN_DIGEST"]
    assert [one.key for one in facts(hasher)] == ["fine"]


@pytest.mark.parametrize(
    ("metadata", "verification", "mismatched"),
    [
        ({"md5": MD5}, "verified", ()),
        ({"sha512": SHA512}, "verified", ()),
        ({"md5": MD5, "sha256": "0" * 64}, "mismatch", ("sha256",)),
        ({"sha-512": "0" * 128}, "mismatch", ("sha512",)),
        ({"md5": "no digest"}, None, ()),
    ],
)
async def test_declared_digest_is_verified(hasher, metadata, verification, mismatched):
    await deliver(hasher, await hasher.put("a", metadata=metadata))
    (fact,) = facts(hasher)
    assert (fact.verification, fact.mismatched) == (verification, mismatched)
    assert set(fact.digests) == {"md5", "sha256", "blake3"}


async def test_checksum_held_by_the_store_is_verified(hasher):
    await deliver(hasher, await hasher.put("a", checksums=["sha1"]))
    assert facts(hasher)[0].verification == "verified"


async def test_forged_metadata_in_a_fact_does_not_change_the_verification(hasher):
    stored = await hasher.put("a", checksums=["sha1"])
    await deliver(hasher, stored)
    await deliver(hasher, hasher.change("stored", "a", etag=stored.etag, size=5, metadata={"md5": "0" * 32}))
    assert [one.verification for one in facts(hasher)] == ["verified", "verified"]


async def test_each_upload_is_verified_against_its_own_declaration(hasher):
    await deliver(hasher, await hasher.put("a", metadata={"md5": "0" * 32}))
    await deliver(hasher, await hasher.put("a"))
    await deliver(hasher, await hasher.put("a", metadata={"sha512": "0" * 128}))
    assert [one.verification for one in facts(hasher)] == ["mismatch", None, "mismatch"]


async def test_large_object_becomes_leased_work_with_progress(large_hasher):
    stored = await large_hasher.put("a", b"x" * 100)
    await deliver(large_hasher, stored)
    assert (large_hasher.ledger["a"].status, facts(large_hasher)) == ("pending", [])
    (lease,) = await large_hasher.work()
    assert facts(large_hasher)[0].digests["sha256"] == hashlib.sha256(b"x" * 100).hexdigest()
    assert (lease.progress["bytes"], lease.progress["size"]) == (100, 100)
    assert [row.history for row in large_hasher.ledger.rows.values()] == [["pending", "running", "succeeded"]]


async def test_large_object_delivered_twice_is_enqueued_once(large_hasher):
    stored = await large_hasher.put("a", b"x" * 100)
    await deliver(large_hasher, stored)
    await deliver(large_hasher, stored)
    assert len(await large_hasher.work()) == 1


async def test_large_object_with_a_newer_version_is_not_read(large_hasher):
    first = await large_hasher.put("a", b"x" * 100)
    await deliver(large_hasher, first)
    await deliver(large_hasher, await large_hasher.put("a", b"small"))
    await large_hasher.work()
    assert [one.size for one in facts(large_hasher)] == [5]


async def test_worker_with_a_lost_lease_publishes_nothing(large_hasher):
    await deliver(large_hasher, await large_hasher.put("a", b"x" * 100))
    (item,) = await large_hasher.queue.claim("worker")
    lease = Lease(item)
    lease.lost = True
    with pytest.raises(Exception, match="lease"):
        await large_hasher.large.digest(lease)
    assert facts(large_hasher) == []


async def test_failed_large_object_has_a_failed_row_and_a_dead_letter_with_the_reason(large_hasher):
    await deliver(large_hasher, await large_hasher.put("a", b"x" * 100))
    (item,) = await large_hasher.queue.claim("worker")
    await large_hasher.large.on_failure(item, ValueError("disk is odd"))
    row = large_hasher.ledger["a"]
    assert (row.status, str(row.failure)) == ("failed", "disk is odd")
    (dead_letter,) = large_hasher.recorder.dead_letters()
    assert dead_letter.topic == "objects.changed.v1.hasher.dlq"
    assert dead_letter.headers["dlq_reason"] == "ValueError: disk is odd"
    assert ObjectChanged.model_validate_json(dead_letter.body) == row.change


async def test_hasher_delay_turns_every_object_into_leased_work(delayed_hasher):
    await deliver(delayed_hasher, await delayed_hasher.put("a", b""))
    assert delayed_hasher.ledger["a"].status == "pending"
    await delayed_hasher.work()
    assert delayed_hasher.ledger["a"].status == "succeeded"


async def test_delete_after_deletes_the_object_but_not_its_digests(deleting_hasher):
    await deliver(deleting_hasher, await deleting_hasher.put("uploads/a"))
    assert [page async for page in deleting_hasher.store.list("inbox")] == []
    await deliver(deleting_hasher, deleting_hasher.change("removed", "uploads/a"))
    assert deleting_hasher.ledger["uploads/a"].digests["md5"] == MD5


async def test_delete_after_does_not_delete_a_newer_object(deleting_hasher, monkeypatch):
    stored, save = await deleting_hasher.put("uploads/a"), deleting_hasher.ledger.save

    async def overwrite_first(rows):
        await deleting_hasher.put("uploads/a", b"newer")
        return await save(rows)

    monkeypatch.setattr(deleting_hasher.ledger, "save", overwrite_first)
    await deliver(deleting_hasher, stored)
    assert (await deleting_hasher.store.read(ObjectRef("inbox", "uploads/a")))[1] == b"newer"


@pytest.mark.parametrize("key", ["a", "files/a", "uploads", "uploads2/a", "a/uploads/a", "Uploads/a"])
async def test_delete_after_deletes_only_uploads_of_the_digest_api(deleting_hasher, key):
    await deliver(deleting_hasher, await deleting_hasher.put(key))
    assert (await deleting_hasher.store.read(ObjectRef("inbox", key)))[1] == b"hello"


@pytest.mark.parametrize("size", [0, 4, 6, 100, None])
async def test_wrong_size_in_a_change_yields_the_digests_and_size_of_the_object(large_hasher, size):
    stored = (await large_hasher.put("a")).model_copy(update={"size": size})
    await deliver(large_hasher, stored)
    assert [(one.size, one.digests["md5"]) for one in facts(large_hasher)] == [(5, MD5)]
    assert large_hasher.queue.rows == {}


@pytest.mark.parametrize("size", [0, 5, None])
async def test_large_object_announced_as_small_becomes_leased_work_with_its_real_size(large_hasher, size):
    stored = (await large_hasher.put("a", b"x" * 100)).model_copy(update={"size": size})
    await deliver(large_hasher, stored)
    (lease,) = await large_hasher.work()
    assert (facts(large_hasher)[0].size, lease.progress["size"]) == (100, 100)


MALFORMED = {
    "tombstone": (None, "EMPTY_RECORD"),
    "nothing": (b"", "BAD_EVENT"),
    "no JSON": (b"\x00\xff\xfe", "BAD_EVENT"),
    "cut JSON": (b'{"bucket": "inbox", ', "BAD_EVENT"),
    "other JSON": (b"42", "BAD_EVENT"),
    "missing field": (b'{"bucket": "inbox", "change": "stored"}', "BAD_EVENT"),
    "wrong type": (b'{"bucket": "inbox", "key": ["a"], "change": "stored"}', "BAD_EVENT"),
    "unknown change": (b'{"bucket": "inbox", "key": "a", "change": "moved"}', "BAD_EVENT"),
    "negative size": (b'{"bucket": "inbox", "key": "a", "change": "stored", "size": -1}', "BAD_EVENT"),
    "nested without end": (b'{"bucket":' * 50_000, "BAD_EVENT"),
}


@pytest.mark.parametrize(("body", "code"), MALFORMED.values(), ids=MALFORMED)
async def test_malformed_record_is_one_dead_letter_and_its_neighbors_are_hashed(hasher, body, code):
    before, after = record_of(await hasher.put("before")), record_of(await hasher.put("after"))
    await hasher.wired.deliver(before, record(OBJECTS_CHANGED.name, body, key=b"k"), after)
    assert [one.key for one in facts(hasher)] == ["before", "after"]
    assert hasher.recorder.dead_letter_codes() == [code]
    assert hasher.recorder.dead_letters()[0].body == body


async def test_unknown_error_fails_only_its_own_object(hasher, monkeypatch):
    read = hasher.store.read

    async def fail_for_bad(ref, **options):
        if ref.key == "bad":
            raise ValueError("odd")
        return await read(ref, **options)

    monkeypatch.setattr(hasher.store, "read", fail_for_bad)
    await deliver(hasher, await hasher.put("bad"), await hasher.put("fine"))
    assert (hasher.ledger["bad"].status, str(hasher.ledger["bad"].failure)) == ("failed", "odd")
    assert hasher.recorder.dead_letter_codes() == ["ValueError"]
    assert [one.key for one in facts(hasher)] == ["fine"]


async def test_outage_dead_letters_nothing_and_the_batch_succeeds_afterwards(hasher):
    stored = await hasher.put("a")
    hasher.store.is_away = True
    with pytest.raises(BaseException, match=r"away|TaskGroup") as raised:
        await deliver(hasher, stored)
    assert kind_of(raised.value) is Kind.OUTAGE
    hasher.store.is_away = False
    await deliver(hasher, stored)
    assert len(facts(hasher)) == 1
    assert hasher.recorder.dead_letters() == []


async def test_unreadable_object_becomes_leased_work_and_the_batch_continues(hasher):
    hasher.store.failing_keys = {"stuck"}
    await deliver(hasher, await hasher.put("stuck"), await hasher.put("fine"))
    assert [one.key for one in facts(hasher)] == ["fine"]
    (item,) = await hasher.queue.claim("worker")
    with pytest.raises(Outage):
        await hasher.large.digest(Lease(item))
    hasher.store.failing_keys = set()
    await hasher.large.digest(Lease(item))
    assert [one.key for one in facts(hasher)] == ["fine", "stuck"]
    assert hasher.recorder.dead_letters() == []


async def test_removal_of_an_object_that_still_exists_hides_nothing(hasher):
    await deliver(hasher, await hasher.put("a"))
    await deliver(hasher, hasher.change("removed", "a"))
    assert hasher.ledger["a"].status == "succeeded"


@pytest.mark.parametrize("size", [5, 9 << 20])
async def test_foreign_bucket_is_a_dead_letter_without_a_request_to_the_store(hasher, size):
    foreign = (await hasher.put("a")).model_copy(update={"bucket": "elsewhere", "size": size})
    hasher.store.is_away = True
    await deliver(hasher, foreign)
    assert hasher.recorder.dead_letter_codes() == ["FOREIGN_BUCKET"]
    assert hasher.queue.rows == {}


@pytest.mark.parametrize("bucket", ["inbox?x", "elsewhere"])
async def test_queued_work_about_a_foreign_bucket_is_rejected(hasher, bucket):
    change = (await hasher.put("a")).model_copy(update={"bucket": bucket})
    await hasher.queue.add("old", change.model_dump(mode="json"))
    (item,) = await hasher.queue.claim("worker")
    with pytest.raises(Rejected):
        await hasher.large.digest(Lease(item))


async def test_empty_object_has_digests(hasher):
    await deliver(hasher, await hasher.put("empty", b""))
    assert facts(hasher)[0].digests["sha256"] == hashlib.sha256(b"").hexdigest()


async def test_each_version_is_digested_from_its_own_bytes(hasher):
    hasher.store._versioned = True
    first, second = await hasher.put("a", b"one"), await hasher.put("a", b"other")
    await deliver(hasher, first, second)
    assert [one.size for one in facts(hasher)] == [3, 5]
    assert hasher.ledger["a"].change.version_id == second.version_id


def test_unknown_digest_in_the_settings_is_rejected_at_start():
    with pytest.raises(Rejected, match="rot13"):
        build_app(HasherSettings(hasher_digests=("md5", "rot13")))


async def test_event_with_unknown_fields_is_accepted(hasher):
    stored = await hasher.put("a")
    body = stored.model_dump_json().removesuffix("}") + ', "color": "red"}'
    await hasher.wired.deliver(record(OBJECTS_CHANGED.name, body.encode()))
    assert len(facts(hasher)) == 1
