"""Changes in, digests out: each version read once, what cannot be read told as what it is."""

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


async def test_a_stored_object_gets_its_digests_in_the_ledger_and_on_the_topic(hasher):
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


async def test_a_duplicate_is_told_again_under_the_same_id_and_not_read_again(hasher):
    stored = await hasher.put("a")
    await deliver(hasher, stored, stored)
    await deliver(hasher, stored)
    assert len({one.headers["ce_id"] for one in hasher.recorder.published}) == 1
    assert hasher.store.reads == 1


async def test_the_same_bytes_uploaded_again_are_not_read_again(hasher):
    await deliver(hasher, await hasher.put("a"))
    await deliver(hasher, await hasher.put("a"))
    assert hasher.store.reads == 1
    assert [one.digests["md5"] for one in facts(hasher)] == [MD5, MD5]


async def test_more_digests_of_the_same_bytes_are_read_for(hasher):
    await deliver(hasher, await hasher.put("a"))
    await deliver(hasher, await hasher.put("a", metadata={"penstock-digests": "SHA-512, md5"}))
    assert facts(hasher)[-1].digests == {"sha512": SHA512, "md5": MD5}


async def test_what_was_overwritten_before_it_was_read_is_superseded(hasher):
    first = await hasher.put("a", b"one")
    await hasher.put("a", b"other")
    await deliver(hasher, first)
    assert (hasher.ledger["a"].status, facts(hasher)) == ("superseded", [])
    assert hasher.recorder.dead_letters() == []


async def test_only_the_newest_of_a_batch_is_read_and_an_older_one_changes_nothing_later(hasher):
    first, second = await hasher.put("a", b"one"), await hasher.put("a", b"other")
    await deliver(hasher, second, first)
    await deliver(hasher, first)
    assert [one.size for one in facts(hasher)] == [5]
    assert hasher.ledger["a"].status == "succeeded"


async def test_what_was_deleted_before_it_was_read_is_gone(hasher):
    stored = await hasher.put("a")
    await hasher.delete("a")
    await deliver(hasher, stored)
    assert (hasher.ledger["a"].status, facts(hasher), hasher.recorder.dead_letters()) == ("gone", [], [])


async def test_an_object_that_comes_late_is_waited_for(late_hasher, monkeypatch):
    stored = await late_hasher.put("a")
    read, looks = late_hasher.store.read, []

    async def late(ref, **asked):
        looks.append(ref)
        return await read(ref if len(looks) > 1 else ObjectRef("inbox", "not yet"), **asked)

    monkeypatch.setattr(late_hasher.store, "read", late)
    monkeypatch.setattr("services.hasher.adapters.objects.LOOK_AGAIN_SECONDS", 0.0)
    await deliver(late_hasher, stored)
    assert late_hasher.ledger["a"].status == "succeeded"


async def test_a_removal_takes_the_digests_out_of_sight(hasher):
    await deliver(hasher, await hasher.put("a"), await hasher.put("b"))
    await deliver(hasher, await hasher.delete("a"))
    assert [key for (_, key, _), kept in hasher.ledger.rows.items() if kept.current] == ["b"]


async def test_a_digest_nobody_knows_is_a_failed_row_and_a_dead_letter(hasher):
    odd = await hasher.put("odd", metadata={"penstock-digests": "md5 rot13"})
    await deliver(hasher, odd, await hasher.put("fine"))
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
async def test_what_the_uploader_declared_is_verified(hasher, metadata, verification, mismatched):
    await deliver(hasher, await hasher.put("a", metadata=metadata))
    (fact,) = facts(hasher)
    assert (fact.verification, fact.mismatched) == (verification, mismatched)
    assert set(fact.digests) == {"md5", "sha256", "blake3"}


async def test_a_checksum_of_the_store_is_verified(hasher):
    await deliver(hasher, await hasher.put("a", checksums=["sha1"]))
    assert facts(hasher)[0].verification == "verified"


async def test_a_forged_fact_about_the_same_bytes_leaves_their_verification(hasher):
    stored = await hasher.put("a", checksums=["sha1"])
    await deliver(hasher, stored)
    await deliver(hasher, hasher.change("stored", "a", etag=stored.etag, size=5, metadata={"md5": "0" * 32}))
    assert [one.verification for one in facts(hasher)] == ["verified", "verified"]


async def test_what_one_upload_declared_says_nothing_about_the_next(hasher):
    await deliver(hasher, await hasher.put("a", metadata={"md5": "0" * 32}))
    await deliver(hasher, await hasher.put("a"))
    await deliver(hasher, await hasher.put("a", metadata={"sha512": "0" * 128}))
    assert [one.verification for one in facts(hasher)] == ["mismatch", None, "mismatch"]


async def test_a_large_object_becomes_work_with_progress(large_hasher):
    stored = await large_hasher.put("a", b"x" * 100)
    await deliver(large_hasher, stored)
    assert (large_hasher.ledger["a"].status, facts(large_hasher)) == ("pending", [])
    (lease,) = await large_hasher.work()
    assert facts(large_hasher)[0].digests["sha256"] == hashlib.sha256(b"x" * 100).hexdigest()
    assert (lease.progress["bytes"], lease.progress["size"]) == (100, 100)
    assert [kept.history for kept in large_hasher.ledger.rows.values()] == [["pending", "running", "succeeded"]]


async def test_large_work_that_comes_twice_is_done_once(large_hasher):
    stored = await large_hasher.put("a", b"x" * 100)
    await deliver(large_hasher, stored)
    await deliver(large_hasher, stored)
    assert len(await large_hasher.work()) == 1


async def test_large_work_overtaken_by_a_newer_version_ends_without_reading(large_hasher):
    first = await large_hasher.put("a", b"x" * 100)
    await deliver(large_hasher, first)
    await deliver(large_hasher, await large_hasher.put("a", b"small"))
    await large_hasher.work()
    assert [one.size for one in facts(large_hasher)] == [5]


async def test_a_worker_whose_lease_is_lost_concludes_nothing(large_hasher):
    await deliver(large_hasher, await large_hasher.put("a", b"x" * 100))
    (item,) = await large_hasher.queue.claim("worker")
    lease = Lease(item)
    lease.lost = True
    with pytest.raises(Exception, match="lease"):
        await large_hasher.large.digest(lease)
    assert facts(large_hasher) == []


async def test_large_work_that_was_given_up_says_why(large_hasher):
    await deliver(large_hasher, await large_hasher.put("a", b"x" * 100))
    (item,) = await large_hasher.queue.claim("worker")
    await large_hasher.large.give_up(item, ValueError("disk is odd"))
    row = large_hasher.ledger["a"]
    assert (row.status, str(row.failure)) == ("failed", "disk is odd")
    (letter,) = large_hasher.recorder.dead_letters()
    assert letter.topic == "objects.changed.v1.hasher.dlq"
    assert letter.headers["dlq_reason"] == "ValueError: disk is odd"
    assert ObjectChanged.model_validate_json(letter.body) == row.change


async def test_a_delay_makes_everything_work(delayed_hasher):
    await deliver(delayed_hasher, await delayed_hasher.put("a", b""))
    assert delayed_hasher.ledger["a"].status == "pending"
    await delayed_hasher.work()
    assert delayed_hasher.ledger["a"].status == "succeeded"


async def test_delete_after_removes_the_object_and_keeps_its_digests(deleting_hasher):
    await deliver(deleting_hasher, await deleting_hasher.put("uploads/a"))
    assert [page async for page in deleting_hasher.store.list("inbox")] == []
    await deliver(deleting_hasher, deleting_hasher.change("removed", "uploads/a"))
    assert deleting_hasher.ledger["uploads/a"].digests["md5"] == MD5


async def test_delete_after_leaves_what_is_newer(deleting_hasher, monkeypatch):
    stored, record = await deleting_hasher.put("uploads/a"), deleting_hasher.ledger.record

    async def overwritten_meanwhile(rows):
        await deleting_hasher.put("uploads/a", b"newer")
        return await record(rows)

    monkeypatch.setattr(deleting_hasher.ledger, "record", overwritten_meanwhile)
    await deliver(deleting_hasher, stored)
    assert (await deleting_hasher.store.read(ObjectRef("inbox", "uploads/a")))[1] == b"newer"


@pytest.mark.parametrize("key", ["a", "files/a", "uploads", "uploads2/a", "a/uploads/a", "Uploads/a"])
async def test_delete_after_leaves_what_is_no_upload_of_the_digest_api(deleting_hasher, key):
    await deliver(deleting_hasher, await deleting_hasher.put(key))
    assert (await deleting_hasher.store.read(ObjectRef("inbox", key)))[1] == b"hello"


@pytest.mark.parametrize("size", [0, 4, 6, 100, None])
async def test_a_false_size_yields_the_digests_and_size_of_the_object(large_hasher, size):
    stored = (await large_hasher.put("a")).model_copy(update={"size": size})
    await deliver(large_hasher, stored)
    assert [(one.size, one.digests["md5"]) for one in facts(large_hasher)] == [(5, MD5)]
    assert large_hasher.queue.rows == {}


@pytest.mark.parametrize("size", [0, 5, None])
async def test_a_large_object_announced_as_small_becomes_work_with_its_own_size(large_hasher, size):
    stored = (await large_hasher.put("a", b"x" * 100)).model_copy(update={"size": size})
    await deliver(large_hasher, stored)
    (lease,) = await large_hasher.work()
    assert (facts(large_hasher)[0].size, lease.progress["size"]) == (100, 100)


POISON = {
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


@pytest.mark.parametrize(("body", "code"), POISON.values(), ids=POISON)
async def test_poison_is_one_dead_letter_and_its_neighbours_are_unharmed(hasher, body, code):
    before, after = record_of(await hasher.put("before")), record_of(await hasher.put("after"))
    await hasher.wired.deliver(before, record(OBJECTS_CHANGED.name, body, key=b"k"), after)
    assert [one.key for one in facts(hasher)] == ["before", "after"]
    assert hasher.recorder.dead_letter_codes() == [code]
    assert hasher.recorder.dead_letters()[0].body == body


async def test_a_failure_nobody_named_fails_its_own_object_alone(hasher, monkeypatch):
    read = hasher.store.read

    async def choosy(ref, **asked):
        if ref.key == "bad":
            raise ValueError("odd")
        return await read(ref, **asked)

    monkeypatch.setattr(hasher.store, "read", choosy)
    await deliver(hasher, await hasher.put("bad"), await hasher.put("fine"))
    assert (hasher.ledger["bad"].status, str(hasher.ledger["bad"].failure)) == ("failed", "odd")
    assert hasher.recorder.dead_letter_codes() == ["ValueError"]
    assert [one.key for one in facts(hasher)] == ["fine"]


async def test_an_outage_is_nobodys_fault(hasher):
    stored = await hasher.put("a")
    hasher.store.is_away = True
    with pytest.raises(BaseException, match=r"away|TaskGroup") as raised:
        await deliver(hasher, stored)
    assert kind_of(raised.value) is Kind.OUTAGE
    hasher.store.is_away = False
    await deliver(hasher, stored)
    assert len(facts(hasher)) == 1
    assert hasher.recorder.dead_letters() == []


async def test_an_object_that_alone_cannot_be_read_becomes_work_and_the_batch_goes_on(hasher):
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


async def test_a_removal_that_the_bucket_denies_hides_nothing(hasher):
    await deliver(hasher, await hasher.put("a"))
    await deliver(hasher, hasher.change("removed", "a"))
    assert hasher.ledger["a"].status == "succeeded"


@pytest.mark.parametrize("size", [5, 9 << 20])
async def test_a_foreign_bucket_is_a_dead_letter_and_never_asked(hasher, size):
    foreign = (await hasher.put("a")).model_copy(update={"bucket": "elsewhere", "size": size})
    hasher.store.is_away = True
    await deliver(hasher, foreign)
    assert hasher.recorder.dead_letter_codes() == ["FOREIGN_BUCKET"]
    assert hasher.queue.rows == {}


@pytest.mark.parametrize("bucket", ["inbox?x", "elsewhere"])
async def test_work_about_a_foreign_bucket_that_an_earlier_release_took_is_refused(hasher, bucket):
    change = (await hasher.put("a")).model_copy(update={"bucket": bucket})
    await hasher.queue.add("old", change.model_dump(mode="json"))
    (item,) = await hasher.queue.claim("worker")
    with pytest.raises(Rejected):
        await hasher.large.digest(Lease(item))


async def test_an_empty_object_has_digests_too(hasher):
    await deliver(hasher, await hasher.put("empty", b""))
    assert facts(hasher)[0].digests["sha256"] == hashlib.sha256(b"").hexdigest()


async def test_every_version_is_read_as_itself(hasher):
    hasher.store._versioned = True
    first, second = await hasher.put("a", b"one"), await hasher.put("a", b"other")
    await deliver(hasher, first, second)
    assert [one.size for one in facts(hasher)] == [3, 5]
    assert hasher.ledger["a"].change.version_id == second.version_id


def test_a_digest_in_the_settings_that_nobody_knows_is_refused_at_the_start():
    with pytest.raises(Rejected, match="rot13"):
        build_app(HasherSettings(hasher_digests=("md5", "rot13")))


async def test_an_event_with_fields_of_tomorrow_is_read(hasher):
    stored = await hasher.put("a")
    body = stored.model_dump_json().removesuffix("}") + ', "colour": "red"}'
    await hasher.wired.deliver(record(OBJECTS_CHANGED.name, body.encode()))
    assert len(facts(hasher)) == 1
