"""Ingest on a test broker: each change is published once, and bad records are dead-lettered alone."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from services.ingest import workers
from shared.errors import Outage
from shared.events import ObjectChanged, SweepCompleted, SweepRequested
from shared.storage import ObjectRef
from shared.testing.bus import record, record_of
from shared.topics import MINIO_LIVE, MINIO_SAFE
from tests.fakes.ingest import lane


def changes(ingest):
    return [(one.change, one.key) for one in ingest.recorder.events(ObjectChanged)]


async def test_both_lanes_and_duplicates_publish_one_fact(ingest):
    stored = await ingest.put("a", metadata={"Color": "red"})
    for topic in (MINIO_LIVE, MINIO_SAFE, MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(stored, topic=topic))
    (fact,) = ingest.recorder.events(ObjectChanged)
    assert (fact.bucket, fact.key, fact.size, fact.seen_by) == ("inbox", "a", 5, "live")
    assert fact.metadata == {"color": "red"}
    assert ingest.recorder.dead_letters() == []


async def test_fact_has_its_record_key_and_cloud_event_headers(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a b+é")))
    (sent,) = ingest.recorder.published
    assert sent.key == "inbox/a b+é".encode()
    assert sent.headers["ce_type"] == "penstock.objects.changed.v1"
    assert json.loads(sent.body)["correlation_id"] == sent.headers["correlation_id"]


async def test_removal_has_the_correlation_id_of_its_object(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a")))
    await ingest.wired.deliver(lane(await ingest.delete("a")))
    stored, removed = ingest.recorder.events(ObjectChanged)
    assert (stored.change, removed.change) == ("stored", "removed")
    assert removed.correlation_id == stored.correlation_id
    assert removed.revision > stored.revision


async def test_batch_out_of_order_is_published_in_order(ingest):
    first = await ingest.put("a", b"1")
    removed = await ingest.delete("a")
    second = await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(second), lane(first), lane(removed))
    assert ingest.recorder.events(ObjectChanged)[-1].size == 2
    assert ingest.known_objects.known["inbox", "a"].state == "stored"


async def test_late_copy_about_an_overwritten_object_is_not_published(ingest):
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(second))
    await ingest.wired.deliver(lane(first, topic=MINIO_SAFE))
    assert [one.size for one in ingest.recorder.events(ObjectChanged)] == [2]


async def test_crash_between_publish_and_save_republishes_under_the_same_id(ingest):
    stored = lane(await ingest.put("a"))
    ingest.known_objects.save_fails = True
    with pytest.raises(ConnectionResetError):
        await ingest.wired.deliver(stored)
    ingest.known_objects.save_fails = False
    before = {one.headers["ce_id"] for one in ingest.recorder.published}
    await ingest.wired.deliver(stored)
    assert {one.headers["ce_id"] for one in ingest.recorder.published} == before
    assert ingest.recorder.dead_letters() == []


async def test_all_records_of_one_message_are_published(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a"), await ingest.put("b")))
    assert changes(ingest) == [("stored", "a"), ("stored", "b")]


def described(**object_):
    s3 = {"bucket": {"name": "inbox"}, "object": object_}
    event = {"eventName": "s3:ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00Z", "s3": s3}
    return json.dumps({"Records": [event]}).encode()


MALFORMED = {
    "tombstone": (None, "EMPTY_RECORD"),
    "nothing": (b"", "EMPTY_RECORD"),
    "no JSON": (b"\x00\xff\xfe", "BAD_NOTIFICATION"),
    "cut JSON": (b'{"Records": [', "BAD_NOTIFICATION"),
    "other JSON": (b'["an", "array"]', "BAD_NOTIFICATION"),
    "other schema": (b'{"Records": [{"eventName": "s3:ObjectCreated:Put"}]}', "BAD_NOTIFICATION"),
    "no key": (described(size=5), "BAD_NOTIFICATION"),
    "negative size": (described(key="x", size=-5), "UNREADABLE"),
    "key that is no text": (described(key="%ff%fe", size=5), "KEY_UNSAFE"),
    "nested without end": (b"[" * 100_000, "BAD_NOTIFICATION"),
}


@pytest.mark.parametrize(("body", "code"), MALFORMED.values(), ids=MALFORMED)
async def test_malformed_record_is_one_dead_letter_and_its_neighbors_are_published(ingest, body, code):
    before, after = await ingest.put("before"), await ingest.put("after")
    malformed = record(MINIO_LIVE.name, body, key=b"k\xff", headers=[("trace", b"\xff\x00")])
    await ingest.wired.deliver(lane(before), malformed, lane(after))
    assert changes(ingest) == [("stored", "before"), ("stored", "after")]
    (dead_letter,) = ingest.recorder.dead_letters()
    assert (dead_letter.topic, dead_letter.key, dead_letter.body) == ("minio.live.ingest.dlq", b"k\xff", body)
    assert dead_letter.headers["dlq_code"] == code
    assert dead_letter.headers["dlq_offset"] == str(malformed.offset)


async def test_record_that_fails_the_handler_is_dead_lettered_alone(ingest, monkeypatch):
    get = ingest.known_objects.get

    async def fail_for_bad(requested_keys):
        keys = list(requested_keys)
        if ("inbox", "bad") in keys:
            raise ValueError("no such bytes in text")
        return await get(keys)

    monkeypatch.setattr(ingest.known_objects, "get", fail_for_bad)
    keys = ["a", "b", "bad", "c", "d", "e", "f"]
    await ingest.wired.deliver(*[lane(await ingest.put(key)) for key in keys])
    assert sorted(key for _, key in changes(ingest)) == ["a", "b", "c", "d", "e", "f"]
    assert ingest.recorder.dead_letter_codes() == ["ValueError"]


async def test_batch_of_malformed_records_is_dead_lettered_within_the_time_limit(ingest):
    await ingest.wired.deliver(*[record(MINIO_LIVE.name, b"{") for _ in range(500)])
    assert ingest.recorder.dead_letter_codes() == ["BAD_NOTIFICATION"] * 500


@pytest.mark.parametrize(
    "key", ["a\x00b", "a\nb", "a\x1b[2Jb", "a\x9bb", "a\u202etxt.exe", "a\u2066b", "a\x7f"], ids=ascii
)
async def test_key_with_control_or_bidirectional_characters_is_a_dead_letter(ingest, key):
    await ingest.wired.deliver(lane(await ingest.put(key), await ingest.put("fine")))
    assert changes(ingest) == [("stored", "fine")]
    assert ingest.recorder.dead_letter_codes() == ["KEY_UNSAFE"]
    assert key not in ingest.recorder.dead_letters()[0].headers["dlq_reason"]


async def test_foreign_bucket_is_a_dead_letter_without_a_request_to_the_store(ingest):
    stored = await ingest.put("a", bucket="alien")
    ingest.store.is_away = True
    await ingest.wired.deliver(lane(stored))
    assert changes(ingest) == []
    assert ingest.recorder.dead_letter_codes() == ["FOREIGN_BUCKET"]


async def test_folder_marker_is_not_published(ingest):
    await ingest.wired.deliver(lane(await ingest.put("folder/", b"")), lane(await ingest.put("folder/a")))
    assert changes(ingest) == [("stored", "folder/a")]
    assert ingest.recorder.dead_letters() == []


async def test_forged_event_is_pending_first_and_a_dead_letter_once_due(ingest):
    forged = ingest.notification("s3:ObjectCreated:Put", "inbox", "ghost")
    await ingest.wired.deliver(lane(forged))
    assert (changes(ingest), ingest.recorder.dead_letters()) == ([], [])
    await ingest.verifications._verify_due()
    assert ingest.recorder.dead_letter_codes() == ["NO_SUCH_OBJECT"]
    assert ingest.known_objects.pending == {}


async def test_object_removed_before_its_notification_is_not_a_dead_letter(ingest):
    stored = await ingest.put("brief")
    removed = await ingest.delete("brief")
    await ingest.wired.deliver(lane(stored))
    await ingest.wired.deliver(lane(removed))
    await ingest.verifications._verify_due()
    assert changes(ingest) == [("removed", "brief")]
    assert ingest.recorder.dead_letters() == []


async def test_forged_removal_of_an_existing_object_is_a_dead_letter(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a")))
    forged = ingest.notification("s3:ObjectRemoved:Delete", "inbox", "a") | {"eventTime": "2099-01-01T00:00:00Z"}
    await ingest.wired.deliver(lane(forged))
    assert changes(ingest) == [("stored", "a")]
    assert ingest.recorder.dead_letter_codes() == ["NOT_REMOVED"]


async def test_failed_verification_is_a_dead_letter_and_the_next_one_is_processed(ingest):
    gone = await ingest.put("a", bucket="runs")
    await ingest.delete("a", bucket="runs")
    ghost = ingest.notification("s3:ObjectCreated:Put", "inbox", "ghost")
    await ingest.wired.deliver(lane(gone), lane(ghost))
    del ingest.store._buckets["runs"]
    await ingest.verifications._verify_due()
    assert ingest.recorder.dead_letter_codes() == ["NO_SUCH_BUCKET", "NO_SUCH_OBJECT"]
    assert ingest.known_objects.pending == {}


async def test_unreadable_object_does_not_block_others(ingest):
    stuck, fine = await ingest.put("stuck"), await ingest.put("fine")
    ingest.store.failing_keys = {"stuck"}
    await ingest.wired.deliver(lane(stuck), lane(fine))
    assert changes(ingest) == [("stored", "fine")]
    ghost = ingest.notification("s3:ObjectCreated:Put", "inbox", "ghost")
    await ingest.wired.deliver(lane(ghost))
    await ingest.verifications._verify_due()
    assert (ingest.recorder.dead_letter_codes(), len(ingest.known_objects.pending)) == (["NO_SUCH_OBJECT"], 1)
    ingest.store.failing_keys = set()
    await ingest.verifications._verify_due()
    assert changes(ingest) == [("stored", "fine"), ("stored", "stuck")]
    assert (ingest.recorder.dead_letter_codes(), ingest.known_objects.pending) == (["NO_SUCH_OBJECT"], {})


async def test_pending_sweeps_are_limited(ingest):
    requests = [SweepRequested(sweep_id=f"s{number}", buckets=("inbox",)) for number in range(102)]
    await ingest.wired.deliver(*map(record_of, requests))
    assert len(ingest.queue.rows) == 100
    assert ingest.recorder.dead_letter_codes() == ["TOO_MANY_SWEEPS"] * 2


async def test_outage_publishes_nothing_and_the_batch_succeeds_afterwards(ingest):
    stored = lane(await ingest.put("a"))
    ingest.store.is_away = True
    with pytest.raises(Outage):
        await ingest.wired.deliver(stored)
    assert ingest.recorder.published == []
    ingest.store.is_away = False
    await ingest.wired.deliver(stored)
    assert changes(ingest) == [("stored", "a")]


async def test_unwritable_dead_letter_topic_stops_the_batch(ingest):
    ingest.recorder.failing_topics["minio.live.ingest.dlq"] = ValueError("topic is missing")
    with pytest.raises(Outage, match=r"minio\.live\.ingest\.dlq"):
        await ingest.wired.deliver(record(MINIO_LIVE.name, b"{"))


async def test_replay_for_another_service_is_ignored(ingest):
    await ingest.wired.deliver(record(MINIO_LIVE.name, b"{", headers=[("dlq_only", b"hasher")]))
    assert ingest.recorder.dead_letters() == []


async def test_sweep_publishes_missed_objects_and_removals(ingest):
    await ingest.wired.deliver(lane(await ingest.put("known")), lane(await ingest.put("vanishes")))
    late = await ingest.put("missed")
    await ingest.put("elsewhere", bucket="src-data")
    await ingest.delete("vanishes")
    await ingest.sweep()
    facts = {(one.key, one.change, one.seen_by) for one in ingest.recorder.events(ObjectChanged)[2:]}
    assert facts == {
        ("missed", "stored", "sweep"),
        ("elsewhere", "stored", "sweep"),
        ("vanishes", "removed", "sweep"),
    }
    (done,) = ingest.recorder.events(SweepCompleted)
    assert (done.listed, done.missed, done.vanished) == (3, 2, 1)
    await ingest.wired.deliver(lane(late))
    assert len(ingest.recorder.events(ObjectChanged)) == 5


async def test_second_sweep_finds_nothing(ingest):
    await ingest.put("a")
    await ingest.sweep()
    await ingest.sweep()
    assert [one.missed for one in ingest.recorder.events(SweepCompleted)] == [1, 0]


async def test_sweep_skips_unsafe_keys_and_folder_markers(ingest):
    await ingest.put("a\x1bb")
    await ingest.put("folder/", b"")
    await ingest.sweep()
    assert changes(ingest) == []


async def test_missing_bucket_does_not_stop_the_sweep_of_others(ingest):
    del ingest.store._buckets["inbox"]
    await ingest.put("a", bucket="src-data")
    with pytest.raises(Exception, match="there is no bucket inbox"):
        await ingest.sweep()
    assert changes(ingest) == [("stored", "a")]


async def test_duplicate_sweep_request_is_one_sweep_and_a_foreign_bucket_is_a_dead_letter(ingest):
    twice = record_of(SweepRequested(sweep_id="s", buckets=("inbox",)))
    await ingest.wired.deliver(twice, twice, record_of(SweepRequested(sweep_id="t", buckets=("alien",))))
    assert list(ingest.queue.rows) == ["s"]
    assert ingest.recorder.dead_letter_codes() == ["FOREIGN_BUCKET"]


async def test_version_overwritten_before_its_notification_is_not_current(ingest):
    ingest.store._versioned = True
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(second))
    await ingest.wired.deliver(lane(first, topic=MINIO_SAFE))
    assert ingest.known_objects.known["inbox", "a"].version_id == second["s3"]["object"]["versionId"]
    assert [one.size for one in ingest.recorder.events(ObjectChanged)] == [2]


async def test_current_object_is_requested_once_per_key(ingest):
    requested = []
    head = ingest.store.head

    async def counting(ref):
        requested.append(ref)
        return await head(ref)

    ingest.store.head = counting
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"2")
    await ingest.wired.deliver(lane(first), lane(second), lane(first, topic=MINIO_SAFE))
    assert requested == [ObjectRef("inbox", "a")]


async def test_store_is_swept_after_an_outage(ingest, monkeypatch):
    for name in ("WATCH_POLL_SECONDS", "RECOVERY_SECONDS"):
        monkeypatch.setattr(workers, name, 0.0)
    outages, is_enqueued = [Outage("away")] * 2, asyncio.Event()

    async def describe(_bucket, _keys):
        if outages:
            raise outages.pop()
        return []

    async def add(name, payload):
        assert (name.partition("-")[0], payload["buckets"], outages) == ("returned", [], [])
        is_enqueued.set()

    settings = ingest.settings.model_copy(update={"sweep_interval": 1, "sweep_grace": 0})
    bucket, queue = SimpleNamespace(describe=describe), SimpleNamespace(add=add)
    watching = asyncio.create_task(
        replace(ingest.sweeper, settings=settings, bucket=bucket, queue=queue).sweep_after_outages()
    )
    async with asyncio.timeout(10):
        await is_enqueued.wait()
    watching.cancel()


def published_versions(ingest):
    return [(one.change, one.version_id) for one in ingest.recorder.events(ObjectChanged)]


def version_of(notification):
    return notification["s3"]["object"]["versionId"]


@pytest.mark.parametrize("trust_notifications", [False, True], ids=["the bucket", "notifications"])
async def test_version_that_is_current_again_is_published_as_stored(ingest, trust_notifications):
    ingest.versioned(trust_notifications=trust_notifications)
    first, second = await ingest.put("a", b"1", metadata={"color": "red"}), await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(first), lane(second))
    gone = await ingest.delete("a", version_id=version_of(second))
    for topic in (MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(gone, topic=topic))
    facts = ingest.recorder.events(ObjectChanged)
    assert (facts[-1].change, facts[-1].version_id, facts[-1].size) == ("stored", version_of(first), 1)
    assert facts[-1].metadata == {"color": "red"}
    assert ("removed", version_of(second)) in published_versions(ingest)
    assert [one.revision for one in facts] == sorted({one.revision for one in facts})
    assert ingest.known_objects.known["inbox", "a"].version_id == version_of(first)
    assert ingest.recorder.dead_letters() == []


@pytest.mark.parametrize("trust_notifications", [False, True], ids=["the bucket", "notifications"])
@pytest.mark.parametrize("is_versioned_first", [True, False], ids=["a version", "an object from before versioning"])
async def test_undelete_is_published_as_stored(ingest, trust_notifications, is_versioned_first):
    ingest.versioned(trust_notifications=trust_notifications, now=is_versioned_first)
    stored = await ingest.put("a")
    ingest.versioned(trust_notifications=trust_notifications)
    await ingest.wired.deliver(lane(stored))
    await ingest.wired.deliver(lane(await ingest.delete("a")))
    back = await ingest.undelete("a")
    for topic in (MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(back, topic=topic))
    assert [change for change, _ in published_versions(ingest)] == ["stored", "removed", "stored"]
    assert ingest.known_objects.known["inbox", "a"].state == "stored"
    assert ingest.recorder.dead_letters() == []


async def test_undelete_with_an_unknown_delete_marker_publishes_nothing(ingest):
    ingest.versioned()
    await ingest.wired.deliver(lane(await ingest.put("a")))
    await ingest.delete("a")
    await ingest.wired.deliver(lane(await ingest.undelete("a")))
    assert [change for change, _ in published_versions(ingest)] == ["stored"]
    assert ingest.recorder.dead_letters() == []


async def test_removal_of_a_noncurrent_version_is_published_and_leaves_the_current_one(ingest):
    ingest.versioned()
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(first), lane(second))
    gone = await ingest.delete("a", version_id=version_of(first))
    for topic in (MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(gone, topic=topic))
    assert published_versions(ingest)[2:] == [("removed", version_of(first))]
    assert ingest.known_objects.known["inbox", "a"].version_id == version_of(second)


@pytest.mark.parametrize("name", ["s3:ObjectRemoved:Delete", "s3:ObjectRemoved:NoOP"])
async def test_removal_of_an_unknown_object_is_not_published(ingest, name):
    never = ingest.notification(name, "inbox", "never")
    for topic in (MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(never, topic=topic))
    assert (changes(ingest), ingest.recorder.dead_letters()) == ([], [])
    assert not ingest.known_objects.known["inbox", "never"].announced
    await ingest.wired.deliver(lane(await ingest.put("never")))
    assert changes(ingest) == [("stored", "never")]


async def test_removal_delivered_before_its_upload_is_published_after_the_upload(ingest):
    stored = await ingest.put("brief")
    await ingest.wired.deliver(lane(await ingest.delete("brief")))
    assert changes(ingest) == []
    await ingest.wired.deliver(lane(stored))
    assert changes(ingest) == [("removed", "brief")]
    assert ingest.recorder.dead_letters() == []


@pytest.mark.parametrize(
    "name",
    ["s3:Replication:OperationCompletedReplication", "s3:ObjectTransition:Complete", "s3:ObjectRemoved:NoOP"],
)
async def test_ambiguous_event_publishes_what_the_bucket_holds(ingest, name):
    ingest.versioned()
    replica = await ingest.put("a")
    await ingest.wired.deliver(lane(ingest.notification(name, "inbox", "a")))
    assert published_versions(ingest) == [("stored", version_of(replica))]
    await ingest.wired.deliver(lane(replica))
    assert published_versions(ingest) == [("stored", version_of(replica))]


async def test_removal_without_a_notification_causes_a_sweep_of_its_folder(ingest):
    keys = ["run/1", "run/2", "other"]
    await ingest.wired.deliver(*[lane(await ingest.put(key)) for key in keys])
    for key in keys:
        await ingest.delete(key)
    await ingest.wired.deliver(lane(ingest.notification("s3:ObjectRemoved:NoOP", "inbox", "run/1")))
    assert changes(ingest)[3:] == [("removed", "run/1")]
    await ingest.work()
    assert changes(ingest)[4:] == [("removed", "run/2")]


async def test_sweep_compares_versions(ingest):
    ingest.versioned()
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"1")
    await ingest.wired.deliver(lane(first), lane(second))
    await ingest.delete("a", version_id=version_of(second))
    await ingest.sweep("inbox")
    assert published_versions(ingest)[-1] == ("stored", version_of(first))
    await ingest.sweep("inbox")
    assert [one.missed for one in ingest.recorder.events(SweepCompleted)] == [1, 0]
