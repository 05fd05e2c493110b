"""Notifications in, facts out: each change told once, what is false or foul put aside, neighbours unharmed."""

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


def told(ingest):
    return [(one.change, one.key) for one in ingest.recorder.events(ObjectChanged)]


async def test_both_lanes_and_every_repeat_tell_one_fact(ingest):
    stored = await ingest.put("a", metadata={"Colour": "red"})
    for topic in (MINIO_LIVE, MINIO_SAFE, MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(stored, topic=topic))
    (fact,) = ingest.recorder.events(ObjectChanged)
    assert (fact.bucket, fact.key, fact.size, fact.seen_by) == ("inbox", "a", 5, "live")
    assert fact.metadata == {"colour": "red"}
    assert ingest.recorder.dead_letters() == []


async def test_a_fact_travels_under_its_key_with_its_envelope(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a b+é")))
    (sent,) = ingest.recorder.published
    assert sent.key == "inbox/a b+é".encode()
    assert sent.headers["ce_type"] == "penstock.objects.changed.v1"
    assert json.loads(sent.body)["correlation_id"] == sent.headers["correlation_id"]


async def test_a_removal_belongs_to_the_object_that_it_removes(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a")))
    await ingest.wired.deliver(lane(await ingest.delete("a")))
    stored, removed = ingest.recorder.events(ObjectChanged)
    assert (stored.change, removed.change) == ("stored", "removed")
    assert removed.correlation_id == stored.correlation_id
    assert removed.revision > stored.revision


async def test_a_batch_out_of_order_is_told_in_order(ingest):
    first = await ingest.put("a", b"1")
    removed = await ingest.delete("a")
    second = await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(second), lane(first), lane(removed))
    assert ingest.recorder.events(ObjectChanged)[-1].size == 2
    assert ingest.memory.known["inbox", "a"].state == "stored"


async def test_a_late_copy_of_something_overwritten_is_not_told(ingest):
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(second))
    await ingest.wired.deliver(lane(first, topic=MINIO_SAFE))
    assert [one.size for one in ingest.recorder.events(ObjectChanged)] == [2]


async def test_a_crash_between_telling_and_remembering_tells_again_under_the_same_id(ingest):
    stored = lane(await ingest.put("a"))
    ingest.memory.forgets = True
    with pytest.raises(ConnectionResetError):
        await ingest.wired.deliver(stored)
    ingest.memory.forgets = False
    before = {one.headers["ce_id"] for one in ingest.recorder.published}
    await ingest.wired.deliver(stored)
    assert {one.headers["ce_id"] for one in ingest.recorder.published} == before
    assert ingest.recorder.dead_letters() == []


async def test_several_records_in_one_message_are_all_told(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a"), await ingest.put("b")))
    assert told(ingest) == [("stored", "a"), ("stored", "b")]


def described(**object_):
    s3 = {"bucket": {"name": "inbox"}, "object": object_}
    event = {"eventName": "s3:ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00Z", "s3": s3}
    return json.dumps({"Records": [event]}).encode()


POISON = {
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


@pytest.mark.parametrize(("body", "code"), POISON.values(), ids=POISON)
async def test_poison_is_one_dead_letter_and_its_neighbours_are_unharmed(ingest, body, code):
    before, after = await ingest.put("before"), await ingest.put("after")
    poison = record(MINIO_LIVE.name, body, key=b"k\xff", headers=[("trace", b"\xff\x00")])
    await ingest.wired.deliver(lane(before), poison, lane(after))
    assert told(ingest) == [("stored", "before"), ("stored", "after")]
    (letter,) = ingest.recorder.dead_letters()
    assert (letter.topic, letter.key, letter.body) == ("minio.live.ingest.dlq", b"k\xff", body)
    assert letter.headers["dlq_code"] == code
    assert letter.headers["dlq_offset"] == str(poison.offset)


async def test_what_makes_the_handler_fail_is_found_and_buried_alone(ingest, monkeypatch):
    recall = ingest.memory.recall

    async def choosy(places):
        wanted = list(places)
        if ("inbox", "bad") in wanted:
            raise ValueError("no such bytes in text")
        return await recall(wanted)

    monkeypatch.setattr(ingest.memory, "recall", choosy)
    keys = ["a", "b", "bad", "c", "d", "e", "f"]
    await ingest.wired.deliver(*[lane(await ingest.put(key)) for key in keys])
    assert sorted(key for _, key in told(ingest)) == ["a", "b", "c", "d", "e", "f"]
    assert ingest.recorder.dead_letter_codes() == ["ValueError"]


async def test_a_batch_of_nothing_but_poison_ends_soon(ingest):
    await ingest.wired.deliver(*[record(MINIO_LIVE.name, b"{") for _ in range(500)])
    assert ingest.recorder.dead_letter_codes() == ["BAD_NOTIFICATION"] * 500


@pytest.mark.parametrize(
    "key", ["a\x00b", "a\nb", "a\x1b[2Jb", "a\x9bb", "a\u202etxt.exe", "a\u2066b", "a\x7f"], ids=ascii
)
async def test_a_key_that_would_deceive_a_reader_is_put_aside(ingest, key):
    await ingest.wired.deliver(lane(await ingest.put(key), await ingest.put("fine")))
    assert told(ingest) == [("stored", "fine")]
    assert ingest.recorder.dead_letter_codes() == ["KEY_UNSAFE"]
    assert key not in ingest.recorder.dead_letters()[0].headers["dlq_reason"]


async def test_a_foreign_bucket_is_put_aside_and_never_asked(ingest):
    stored = await ingest.put("a", bucket="alien")
    ingest.store.is_away = True
    await ingest.wired.deliver(lane(stored))
    assert told(ingest) == []
    assert ingest.recorder.dead_letter_codes() == ["FOREIGN_BUCKET"]


async def test_a_folder_marker_is_no_object(ingest):
    await ingest.wired.deliver(lane(await ingest.put("folder/", b"")), lane(await ingest.put("folder/a")))
    assert told(ingest) == [("stored", "folder/a")]
    assert ingest.recorder.dead_letters() == []


async def test_a_forged_event_is_doubted_first_and_a_dead_letter_when_its_time_is_over(ingest):
    forged = ingest.notice("s3:ObjectCreated:Put", "inbox", "ghost")
    await ingest.wired.deliver(lane(forged))
    assert (told(ingest), ingest.recorder.dead_letters()) == ([], [])
    await ingest.doubts._settle_due()
    assert ingest.recorder.dead_letter_codes() == ["NO_SUCH_OBJECT"]
    assert ingest.memory.doubts == {}


async def test_an_object_removed_at_once_is_no_forgery(ingest):
    stored = await ingest.put("brief")
    removed = await ingest.delete("brief")
    await ingest.wired.deliver(lane(stored))
    await ingest.wired.deliver(lane(removed))
    await ingest.doubts._settle_due()
    assert told(ingest) == [("removed", "brief")]
    assert ingest.recorder.dead_letters() == []


async def test_a_forged_removal_of_what_is_there_is_a_dead_letter(ingest):
    await ingest.wired.deliver(lane(await ingest.put("a")))
    forged = ingest.notice("s3:ObjectRemoved:Delete", "inbox", "a") | {"eventTime": "2099-01-01T00:00:00Z"}
    await ingest.wired.deliver(lane(forged))
    assert told(ingest) == [("stored", "a")]
    assert ingest.recorder.dead_letter_codes() == ["NOT_REMOVED"]


async def test_a_doubt_that_cannot_be_settled_is_a_dead_letter_and_the_next_one_goes_on(ingest):
    gone = await ingest.put("a", bucket="runs")
    await ingest.delete("a", bucket="runs")
    ghost = ingest.notice("s3:ObjectCreated:Put", "inbox", "ghost")
    await ingest.wired.deliver(lane(gone), lane(ghost))
    del ingest.store._buckets["runs"]
    await ingest.doubts._settle_due()
    assert ingest.recorder.dead_letter_codes() == ["NO_SUCH_BUCKET", "NO_SUCH_OBJECT"]
    assert ingest.memory.doubts == {}


async def test_an_object_that_alone_cannot_be_looked_at_holds_up_no_other(ingest):
    stuck, fine = await ingest.put("stuck"), await ingest.put("fine")
    ingest.store.failing_keys = {"stuck"}
    await ingest.wired.deliver(lane(stuck), lane(fine))
    assert told(ingest) == [("stored", "fine")]
    ghost = ingest.notice("s3:ObjectCreated:Put", "inbox", "ghost")
    await ingest.wired.deliver(lane(ghost))
    await ingest.doubts._settle_due()
    assert (ingest.recorder.dead_letter_codes(), len(ingest.memory.doubts)) == (["NO_SUCH_OBJECT"], 1)
    ingest.store.failing_keys = set()
    await ingest.doubts._settle_due()
    assert told(ingest) == [("stored", "fine"), ("stored", "stuck")]
    assert (ingest.recorder.dead_letter_codes(), ingest.memory.doubts) == (["NO_SUCH_OBJECT"], {})


async def test_sweeps_that_wait_are_bounded(ingest):
    wanted = [SweepRequested(sweep_id=f"s{number}", buckets=("inbox",)) for number in range(102)]
    await ingest.wired.deliver(*map(record_of, wanted))
    assert len(ingest.queue.rows) == 100
    assert ingest.recorder.dead_letter_codes() == ["TOO_MANY_SWEEPS"] * 2


async def test_an_outage_is_nobodys_fault(ingest):
    stored = lane(await ingest.put("a"))
    ingest.store.is_away = True
    with pytest.raises(Outage):
        await ingest.wired.deliver(stored)
    assert ingest.recorder.published == []
    ingest.store.is_away = False
    await ingest.wired.deliver(stored)
    assert told(ingest) == [("stored", "a")]


async def test_a_dead_letter_topic_that_takes_nothing_stops_the_batch(ingest):
    ingest.recorder.failing_topics["minio.live.ingest.dlq"] = ValueError("topic is missing")
    with pytest.raises(Outage, match=r"minio\.live\.ingest\.dlq"):
        await ingest.wired.deliver(record(MINIO_LIVE.name, b"{"))


async def test_a_replay_for_another_service_is_not_ours(ingest):
    await ingest.wired.deliver(record(MINIO_LIVE.name, b"{", headers=[("dlq_only", b"hasher")]))
    assert ingest.recorder.dead_letters() == []


async def test_a_sweep_tells_what_no_lane_brought_and_what_is_gone(ingest):
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


async def test_a_second_sweep_finds_nothing(ingest):
    await ingest.put("a")
    await ingest.sweep()
    await ingest.sweep()
    assert [one.missed for one in ingest.recorder.events(SweepCompleted)] == [1, 0]


async def test_a_sweep_leaves_what_nobody_may_see(ingest):
    await ingest.put("a\x1bb")
    await ingest.put("folder/", b"")
    await ingest.sweep()
    assert told(ingest) == []


async def test_a_bucket_that_is_not_there_keeps_no_other_from_being_swept(ingest):
    del ingest.store._buckets["inbox"]
    await ingest.put("a", bucket="src-data")
    with pytest.raises(Exception, match="there is no bucket inbox"):
        await ingest.sweep()
    assert told(ingest) == [("stored", "a")]


async def test_a_sweep_requested_twice_is_one_and_of_a_foreign_bucket_none(ingest):
    twice = record_of(SweepRequested(sweep_id="s", buckets=("inbox",)))
    await ingest.wired.deliver(twice, twice, record_of(SweepRequested(sweep_id="t", buckets=("alien",))))
    assert list(ingest.queue.rows) == ["s"]
    assert ingest.recorder.dead_letter_codes() == ["FOREIGN_BUCKET"]


async def test_a_version_overwritten_before_it_was_told_does_not_stand(ingest):
    ingest.store._versioned = True
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(second))
    await ingest.wired.deliver(lane(first, topic=MINIO_SAFE))
    assert ingest.memory.known["inbox", "a"].version_id == second["s3"]["object"]["versionId"]
    assert [one.size for one in ingest.recorder.events(ObjectChanged)] == [2]


async def test_the_current_object_is_asked_for_once_a_key(ingest):
    asked = []
    head = ingest.store.head

    async def counting(ref):
        asked.append(ref)
        return await head(ref)

    ingest.store.head = counting
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"2")
    await ingest.wired.deliver(lane(first), lane(second), lane(first, topic=MINIO_SAFE))
    assert asked == [ObjectRef("inbox", "a")]


async def test_a_store_that_was_away_is_swept_once_it_is_back(ingest, monkeypatch):
    for name in ("WATCH_EVERY", "FIRST_MOMENTS"):
        monkeypatch.setattr(workers, name, 0.0)
    silences, asked_for = [Outage("away")] * 2, asyncio.Event()

    async def describe(_bucket, _keys):
        if silences:
            raise silences.pop()
        return []

    async def add(name, payload):
        assert (name.partition("-")[0], payload["buckets"], silences) == ("returned", [], [])
        asked_for.set()

    settings = ingest.settings.model_copy(update={"sweep_interval": 1, "sweep_grace": 0})
    bucket, queue = SimpleNamespace(describe=describe), SimpleNamespace(add=add)
    watching = asyncio.create_task(
        replace(ingest.sweeper, settings=settings, bucket=bucket, queue=queue).sweep_after_outages()
    )
    async with asyncio.timeout(10):
        await asked_for.wait()
    watching.cancel()


def versions_told(ingest):
    return [(one.change, one.version_id) for one in ingest.recorder.events(ObjectChanged)]


def version_of(notice):
    return notice["s3"]["object"]["versionId"]


@pytest.mark.parametrize("trusts", [False, True], ids=["the bucket", "notifications"])
async def test_a_version_that_is_current_again_is_told_as_stored(ingest, trusts):
    ingest.versioned(trusts=trusts)
    first, second = await ingest.put("a", b"1", metadata={"color": "red"}), await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(first), lane(second))
    gone = await ingest.delete("a", version_id=version_of(second))
    for topic in (MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(gone, topic=topic))
    facts = ingest.recorder.events(ObjectChanged)
    assert (facts[-1].change, facts[-1].version_id, facts[-1].size) == ("stored", version_of(first), 1)
    assert facts[-1].metadata == {"color": "red"}
    assert ("removed", version_of(second)) in versions_told(ingest)
    assert [one.revision for one in facts] == sorted({one.revision for one in facts})
    assert ingest.memory.known["inbox", "a"].version_id == version_of(first)
    assert ingest.recorder.dead_letters() == []


@pytest.mark.parametrize("trusts", [False, True], ids=["the bucket", "notifications"])
@pytest.mark.parametrize("is_versioned_first", [True, False], ids=["a version", "an object of before"])
async def test_an_undelete_is_told_as_stored(ingest, trusts, is_versioned_first):
    ingest.versioned(trusts=trusts, now=is_versioned_first)
    stored = await ingest.put("a")
    ingest.versioned(trusts=trusts)
    await ingest.wired.deliver(lane(stored))
    await ingest.wired.deliver(lane(await ingest.delete("a")))
    back = await ingest.undelete("a")
    for topic in (MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(back, topic=topic))
    assert [change for change, _ in versions_told(ingest)] == ["stored", "removed", "stored"]
    assert ingest.memory.known["inbox", "a"].state == "stored"
    assert ingest.recorder.dead_letters() == []


async def test_an_undelete_whose_marker_was_never_told_changes_nothing(ingest):
    ingest.versioned()
    await ingest.wired.deliver(lane(await ingest.put("a")))
    await ingest.delete("a")
    await ingest.wired.deliver(lane(await ingest.undelete("a")))
    assert [change for change, _ in versions_told(ingest)] == ["stored"]
    assert ingest.recorder.dead_letters() == []


async def test_the_removal_of_an_old_version_says_so_and_leaves_the_current_one(ingest):
    ingest.versioned()
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"22")
    await ingest.wired.deliver(lane(first), lane(second))
    gone = await ingest.delete("a", version_id=version_of(first))
    for topic in (MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(gone, topic=topic))
    assert versions_told(ingest)[2:] == [("removed", version_of(first))]
    assert ingest.memory.known["inbox", "a"].version_id == version_of(second)


@pytest.mark.parametrize("name", ["s3:ObjectRemoved:Delete", "s3:ObjectRemoved:NoOP"])
async def test_a_removal_of_what_never_was_is_no_fact(ingest, name):
    never = ingest.notice(name, "inbox", "never")
    for topic in (MINIO_LIVE, MINIO_SAFE):
        await ingest.wired.deliver(lane(never, topic=topic))
    assert (told(ingest), ingest.recorder.dead_letters()) == ([], [])
    assert not ingest.memory.known["inbox", "never"].announced
    await ingest.wired.deliver(lane(await ingest.put("never")))
    assert told(ingest) == [("stored", "never")]


async def test_a_removal_that_overtook_what_it_removed_is_told_after_all(ingest):
    stored = await ingest.put("brief")
    await ingest.wired.deliver(lane(await ingest.delete("brief")))
    assert told(ingest) == []
    await ingest.wired.deliver(lane(stored))
    assert told(ingest) == [("removed", "brief")]
    assert ingest.recorder.dead_letters() == []


@pytest.mark.parametrize(
    "name",
    ["s3:Replication:OperationCompletedReplication", "s3:ObjectTransition:Complete", "s3:ObjectRemoved:NoOP"],
)
async def test_an_event_that_says_neither_is_a_reason_to_look(ingest, name):
    ingest.versioned()
    replica = await ingest.put("a")
    await ingest.wired.deliver(lane(ingest.notice(name, "inbox", "a")))
    assert versions_told(ingest) == [("stored", version_of(replica))]
    await ingest.wired.deliver(lane(replica))
    assert versions_told(ingest) == [("stored", version_of(replica))]


async def test_what_went_without_a_notification_has_its_folder_swept(ingest):
    keys = ["run/1", "run/2", "other"]
    await ingest.wired.deliver(*[lane(await ingest.put(key)) for key in keys])
    for key in keys:
        await ingest.delete(key)
    await ingest.wired.deliver(lane(ingest.notice("s3:ObjectRemoved:NoOP", "inbox", "run/1")))
    assert told(ingest)[3:] == [("removed", "run/1")]
    await ingest.work()
    assert told(ingest)[4:] == [("removed", "run/2")]


async def test_a_sweep_compares_versions(ingest):
    ingest.versioned()
    first, second = await ingest.put("a", b"1"), await ingest.put("a", b"1")
    await ingest.wired.deliver(lane(first), lane(second))
    await ingest.delete("a", version_id=version_of(second))
    await ingest.sweep("inbox")
    assert versions_told(ingest)[-1] == ("stored", version_of(first))
    await ingest.sweep("inbox")
    assert [one.missed for one in ingest.recorder.events(SweepCompleted)] == [1, 0]
