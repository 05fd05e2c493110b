"""What every work queue does: one suite for the queue in Postgres and the one in memory."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.testing.work import MemoryQueue
from shared.work import LeaseLost
from shared.work.queue import FAILED_RETENTION, RETENTION


async def pass_time(queue, seconds):
    """Let all times of a queue lie `seconds` further back, whatever the machine's clock and load."""
    if isinstance(queue, MemoryQueue):
        before = queue.clock
        queue.clock = lambda: before() + seconds
        return
    await queue._pool.execute(
        "update work.items set lease_until = lease_until - $2 * interval '1 second',"
        " not_before = not_before - $2 * interval '1 second',"
        " finished_at = finished_at - $2 * interval '1 second' where queue = $1",
        queue.name,
        float(seconds),
    )


async def claim_one(queue, worker="w"):
    (item,) = await queue.claim(worker)
    return item


class QueueConformance:
    """Tests of a queue; subclasses give the fixtures `queue`, and `pairs` that runs two items of a group at a time."""

    async def test_item_is_added_once_and_opens_again_only_for_other_work(self, queue):
        assert await queue.add("k", {"n": 1}, correlation_id="c")
        assert not await queue.add("k", {"n": 2}), "it is pending"
        item = await claim_one(queue)
        assert (item.payload, item.attempt, item.correlation_id) == ({"n": 1}, 1, "c")
        assert not await queue.add("k", {"n": 2}), "it runs"
        await queue.complete(item)
        assert not await queue.add("k", {"n": 1}), "it has succeeded"
        assert await queue.add("k", {"n": 2})
        again = await claim_one(queue)
        assert (again.payload, again.attempt) == ({"n": 2}, 1)
        await queue.fail(again, "odd", retry_in=None)
        assert await queue.counts() == {"failed": 1}
        assert await queue.add("k", {"n": 2}), "a failed item may be added again"

    async def test_items_of_a_prefix_are_counted_and_succeeded_ones_forgotten(self, queue):
        for key in ("a/1", "a/2", "a%", "b/1"):
            await queue.add(key, {})
        for item in await queue.claim("one", 4):
            if item.key != "a/2":
                await queue.complete(item)
        assert await queue.counts("a/") == {"succeeded": 1, "running": 1}
        await queue.forget("a/")
        assert await queue.counts() == {"succeeded": 2, "running": 1}
        assert await queue.add("a/1", {}), "a forgotten item is new"

    async def test_reports_are_the_progress_of_running_items_of_a_prefix(self, queue):
        for key in ("a/1", "a/2", "a/3", "b/1"):
            await queue.add(key, {})
        for item in await queue.claim("one", 4):
            if item.key != "a/2":
                await queue.heartbeat(item, {"of": item.key})
            if item.key == "a/3":
                await queue.complete(item)
        assert await queue.reports("a/") == [{"of": "a/1"}]

    async def test_every_write_of_a_zombie_is_refused(self, queue):
        await queue.add("k", {})
        zombie = await claim_one(queue, "first")
        assert await queue.claim("second") == []
        await pass_time(queue, queue.lease_seconds)
        item = await claim_one(queue, "second")
        assert (item.attempt, item.token > zombie.token) == (2, True)
        for write in (
            queue.heartbeat(zombie),
            queue.complete(zombie),
            queue.fail(zombie, "late", retry_in=None),
            queue.postpone(zombie, "late", seconds=1),
            queue.reschedule(zombie, seconds=1),
            queue.release(zombie),
            queue.confirm_cancel(zombie),
        ):
            with pytest.raises(LeaseLost):
                await write
        await queue.complete(item)
        await queue.complete(item)
        with pytest.raises(LeaseLost):
            await queue.fail(item, "after the end", retry_in=None)

    async def test_heartbeats_hold_an_item(self, queue):
        await queue.add("k", {})
        item = await claim_one(queue, "first")
        for _ in range(5):
            await pass_time(queue, queue.lease_seconds / 3)
            assert not await queue.heartbeat(item, {"bytes": 1})
            assert await queue.claim("second") == []

    async def test_released_item_is_claimable_at_once_and_its_attempt_does_not_count(self, queue):
        await queue.add("k", {})
        await queue.release(await claim_one(queue, "first"))
        item = await claim_one(queue, "first")
        assert item.attempt == 1
        assert await queue.release_all("second") == 0
        assert await queue.release_all("first") == 1
        assert await queue.counts() == {"pending": 1}

    async def test_failed_attempt_waits_for_its_retry(self, queue):
        await queue.add("k", {})
        await queue.fail(await claim_one(queue), "odd", retry_in=60)
        assert await queue.claim("w") == []
        assert 0 < await queue.seconds_until_due() <= 60
        await pass_time(queue, 60)
        assert (await claim_one(queue)).attempt == 2

    async def test_takeover_and_retry_get_the_stored_progress_and_a_new_start_does_not(self, queue):
        await queue.add("k", {})
        first = await claim_one(queue)
        assert first.progress is None
        await queue.heartbeat(first, {"bytes": 7})
        await pass_time(queue, queue.lease_seconds)
        taken_over = await claim_one(queue)
        assert taken_over.progress == {"bytes": 7}
        await queue.fail(taken_over, "odd", retry_in=0)
        retried = await claim_one(queue)
        assert retried.progress == {"bytes": 7}
        await queue.fail(retried, "odd", retry_in=None)
        await queue.add("k", {})
        assert (await claim_one(queue)).progress is None

    async def test_item_is_not_claimable_before_its_time(self, queue):
        await queue.add("k", {}, not_before=datetime.now(UTC) + timedelta(hours=1))
        assert await queue.claim("w") == []
        assert 3500 < await queue.seconds_until_due() <= 3600
        await pass_time(queue, 3600)
        assert (await claim_one(queue)).key == "k"

    async def test_rescheduled_item_waits_without_a_lease_an_attempt_or_an_error(self, queue):
        await queue.add("k", {})
        for polls in range(3):
            item = await claim_one(queue)
            assert (item.attempt, item.progress) == (1, {"polls": polls} if polls else None)
            await queue.reschedule(item, seconds=60, progress={"polls": polls + 1})
            assert await queue.claim("w") == []
            with pytest.raises(LeaseLost):
                await queue.heartbeat(item)
            await pass_time(queue, 60)
        state = await queue.state("k")
        assert (state.state, state.attempt, state.error) == ("pending", 0, None)

    async def test_rescheduled_item_keeps_its_progress_without_a_newer_one(self, queue):
        await queue.add("k", {})
        item = await claim_one(queue)
        await queue.heartbeat(item, {"job": 17})
        await queue.reschedule(item, seconds=0)
        assert (await claim_one(queue)).progress == {"job": 17}

    async def test_state_tells_attempt_progress_error_and_times(self, queue):
        assert await queue.state("k") is None
        await queue.add("k", {})
        added = await queue.state("k")
        assert (added.state, added.attempt, added.progress, added.finished_at) == ("pending", 0, None, None)
        item = await claim_one(queue)
        await queue.heartbeat(item, {"bytes": 7})
        await queue.fail(item, "odd", retry_in=None)
        failed = await queue.state("k")
        assert (failed.state, failed.attempt, failed.progress, failed.error) == ("failed", 1, {"bytes": 7}, "odd")
        assert abs((failed.finished_at - datetime.now(UTC)).total_seconds()) < 60
        assert added.created_at <= failed.updated_at

    async def test_cancelled_item_that_has_begun_nothing_ends_at_once(self, queue):
        await queue.add("k", {"n": 1})
        assert await queue.cancel("k") == "cancelled"
        assert await queue.claim("w") == []
        assert (await queue.state("k")).finished_at is not None
        assert await queue.cancel("k") is None
        assert await queue.cancel("unknown") is None
        assert await queue.add("k", {"n": 1}), "a cancelled item may be added again"
        assert not (await claim_one(queue)).cancel_requested

    async def test_holder_of_a_cancelled_item_learns_it_by_its_heartbeat_and_confirms(self, queue):
        await queue.add("k", {})
        item = await claim_one(queue)
        assert not await queue.heartbeat(item)
        assert await queue.cancel("k") == "running"
        assert await queue.heartbeat(item)
        assert await queue.counts() == {"running": 1}
        await queue.confirm_cancel(item)
        assert await queue.counts() == {"cancelled": 1}
        assert await queue.claim("w") == []

    async def test_cancelled_item_of_a_dead_holder_is_claimed_to_be_confirmed(self, queue):
        await queue.add("k", {})
        await claim_one(queue, "dies")
        await queue.cancel("k")
        assert await queue.claim("w") == []
        await pass_time(queue, queue.lease_seconds)
        item = await claim_one(queue)
        assert item.cancel_requested
        await queue.confirm_cancel(item)
        assert await queue.counts() == {"cancelled": 1}

    @pytest.mark.parametrize("waits", ["before", "after"])
    async def test_cancelled_item_that_waits_after_it_began_is_claimed_at_once_to_be_confirmed(self, queue, waits):
        await queue.add("k", {})
        item = await claim_one(queue)
        if waits == "after":
            await queue.cancel("k")
        await queue.reschedule(item, seconds=3600, progress={"job": 17})
        if waits == "before":
            assert await queue.cancel("k") == "pending"
        item = await claim_one(queue)
        assert (item.cancel_requested, item.progress) == (True, {"job": 17})

    async def test_cancelled_item_whose_handler_was_done_already_has_succeeded(self, queue):
        await queue.add("k", {})
        item = await claim_one(queue)
        await queue.cancel("k")
        await queue.complete(item)
        assert await queue.counts() == {"succeeded": 1}

    async def test_items_of_a_group_run_as_many_at_a_time_as_its_limit(self, pairs):
        for host in ("a", "b", ""):
            for number in range(3):
                await pairs.add(f"{host}{number}", {}, group=host)
        first = await pairs.claim("w", 20)
        assert sorted(item.key for item in first) == ["0", "1", "2", "a0", "a1", "b0", "b1"]
        assert await pairs.claim("w", 20) == []
        assert await pairs.seconds_until_due() > 0, "nothing to poll for until a lease ends"
        await pairs.complete(next(item for item in first if item.key == "a1"))
        assert [item.key for item in await pairs.claim("w", 20)] == ["a2"]

    async def test_full_group_does_not_delay_others(self, pairs):
        for number in range(30):
            await pairs.add(f"a{number}", {}, group="a")
        await pairs.add("b0", {}, group="b")
        claimed = [item.key for _ in range(3) for item in await pairs.claim("w")]
        assert claimed == ["a0", "a1", "b0"]

    async def test_takeover_within_a_full_group(self, pairs):
        for number in range(3):
            await pairs.add(f"a{number}", {}, group="a")
        await pairs.claim("dies", 2)
        await pass_time(pairs, pairs.lease_seconds)
        taken_over = await pairs.claim("w", 3)
        assert sorted((item.key, item.attempt, item.group) for item in taken_over) == [("a0", 2, "a"), ("a1", 2, "a")]

    @pytest.mark.parametrize("end", ["fail", "retry", "postpone", "reschedule", "release", "cancel"])
    async def test_item_that_no_longer_runs_makes_room_in_its_group(self, pairs, end):
        for number in range(3):
            await pairs.add(f"a{number}", {}, group="a")
        item, _ = await pairs.claim("w", 2)
        match end:
            case "fail" | "retry":
                await pairs.fail(item, "odd", retry_in=60 if end == "retry" else None)
            case "postpone":
                await pairs.postpone(item, "away", seconds=60)
            case "reschedule":
                await pairs.reschedule(item, seconds=60)
            case "release":
                await pairs.release(item)
            case _:
                await pairs.cancel(item.key)
                await pairs.confirm_cancel(item)
        assert len(await pairs.claim("w", 2)) == 1

    async def test_finished_items_are_purged_and_failed_ones_later(self, queue):
        for key in ("succeeded", "failed", "waiting"):
            await queue.add(key, {})
        for item in await queue.claim("w", 3):
            match item.key:
                case "succeeded":
                    await queue.complete(item)
                case "failed":
                    await queue.fail(item, "odd", retry_in=None)
                case _:
                    await queue.release(item)
        await queue.add("cancelled", {})
        await queue.cancel("cancelled")
        await queue.purge()
        assert sum((await queue.counts()).values()) == 4
        await pass_time(queue, RETENTION.total_seconds() + 60)
        await queue.purge()
        assert await queue.counts() == {"failed": 1, "pending": 1}
        await pass_time(queue, (FAILED_RETENTION - RETENTION).total_seconds())
        await queue.purge()
        assert await queue.counts() == {"pending": 1}
