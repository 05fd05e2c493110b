"""Leased work on a real Postgres: whatever dies, each effect happens once."""

import asyncio
import os
import signal
import sys
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.errors import Outage, Rejected
from shared.postgres import migrate, open_pool
from shared.testing.work import MemoryQueue
from shared.work import MIGRATIONS, LeaseLost, RetryPolicy, Worker, WorkQueue
from shared.work.worker import LEASE_LOST, POLL_SECONDS

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
EFFECTS = """
create schema if not exists work_test;
create table if not exists work_test.effects (
    queue text, key text, attempt integer, at timestamptz default clock_timestamp()
)
"""


@pytest.fixture(scope="session")
def dsn(servers):
    dsn = SecretStr(servers.env["PENSTOCK_POSTGRES_DSN"])

    async def prepare():
        await migrate(dsn, "work", MIGRATIONS)
        async with open_pool(dsn, service="test") as pool:
            await pool.execute(EFFECTS)

    asyncio.run(prepare())
    return dsn


@pytest.fixture
async def pool(dsn):
    async with open_pool(dsn, service="test", max_size=16) as pool:
        yield pool


@pytest.fixture
def name():
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def queue(pool, name):
    return WorkQueue(pool, name)


@pytest.fixture(params=["postgres", "memory"])
def any_queue(request, name):
    if request.param == "memory":
        return MemoryQueue(name)
    return WorkQueue(request.getfixturevalue("pool"), name)


async def pass_time(queue, seconds):
    """Let all times of a queue lie `seconds` further back, whatever the machine's clock and load."""
    if isinstance(queue, MemoryQueue):
        before = queue.clock
        queue.clock = lambda: before() + seconds
        return
    await queue._pool.execute(
        "update work.items set lease_until = lease_until - $2 * interval '1 second',"
        " not_before = not_before - $2 * interval '1 second' where queue = $1",
        queue.name,
        float(seconds),
    )


async def until(condition, seconds=60.0):
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.02)


def counted(queue, **expected):
    async def condition():
        return await queue.counts() == expected

    return condition


async def effects(pool, name):
    rows = await pool.fetch("select key, attempt, at from work_test.effects where queue = $1 order by at", name)
    return [(row["key"], row["attempt"]) for row in rows]


@asynccontextmanager
async def working(queue, handle, *, retries=None, concurrency=4, grace=5.0, **more):
    worker = Worker(queue, handle, concurrency=concurrency, retries=retries or RetryPolicy(), grace=grace, **more)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running


# What every queue does, the one in memory too.


async def test_an_item_is_added_once_and_opened_again_only_by_other_work(any_queue):
    assert await any_queue.add("k", {"n": 1}, correlation_id="c")
    assert not await any_queue.add("k", {"n": 2}), "it waits"
    (item,) = await any_queue.claim("w")
    assert (item.payload, item.attempt, item.correlation_id) == ({"n": 1}, 1, "c")
    assert not await any_queue.add("k", {"n": 2}), "it runs"
    await any_queue.complete(item)
    assert not await any_queue.add("k", {"n": 1}), "it has succeeded"
    assert await any_queue.add("k", {"n": 2})
    (again,) = await any_queue.claim("w")
    assert (again.payload, again.attempt) == ({"n": 2}, 1)
    await any_queue.fail(again, "odd", retry_in=None)
    assert await any_queue.counts() == {"failed": 1}
    assert await any_queue.add("k", {"n": 2}), "what failed may be asked for again"


async def test_items_of_a_prefix_are_counted_and_forgotten_once_they_succeeded(any_queue):
    for key in ("a/1", "a/2", "a%", "b/1"):
        await any_queue.add(key, {})
    for item in await any_queue.claim("one", 4):
        if item.key != "a/2":
            await any_queue.complete(item)
    assert await any_queue.counts("a/") == {"succeeded": 1, "running": 1}
    await any_queue.forget("a/")
    assert await any_queue.counts() == {"succeeded": 2, "running": 1}
    assert await any_queue.add("a/1", {}), "what was forgotten is new"


async def test_what_running_items_of_a_prefix_report_is_there_for_others(any_queue):
    for key in ("a/1", "a/2", "a/3", "b/1"):
        await any_queue.add(key, {})
    for item in await any_queue.claim("one", 4):
        if item.key != "a/2":
            await any_queue.heartbeat(item, {"of": item.key})
        if item.key == "a/3":
            await any_queue.complete(item)
    assert await any_queue.reports("a/") == [{"of": "a/1"}]


async def test_a_zombie_is_refused_whatever_it_writes(any_queue):
    await any_queue.add("k", {})
    (zombie,) = await any_queue.claim("first")
    assert await any_queue.claim("second") == []
    await pass_time(any_queue, any_queue.lease_seconds)
    (item,) = await any_queue.claim("second")
    assert (item.attempt, item.token > zombie.token) == (2, True)
    for write in (
        any_queue.heartbeat(zombie),
        any_queue.complete(zombie),
        any_queue.fail(zombie, "late", retry_in=None),
        any_queue.release(zombie),
    ):
        with pytest.raises(LeaseLost):
            await write
    await any_queue.complete(item)
    await any_queue.complete(item)
    with pytest.raises(LeaseLost):
        await any_queue.fail(item, "after the end", retry_in=None)


async def test_heartbeats_hold_an_item(any_queue):
    await any_queue.add("k", {})
    (item,) = await any_queue.claim("first")
    for _ in range(5):
        await pass_time(any_queue, any_queue.lease_seconds / 3)
        await any_queue.heartbeat(item, {"bytes": 1})
        assert await any_queue.claim("second") == []


async def test_a_released_item_is_free_at_once_and_its_attempt_does_not_count(any_queue):
    await any_queue.add("k", {})
    (item,) = await any_queue.claim("first")
    await any_queue.release(item)
    (item,) = await any_queue.claim("first")
    assert item.attempt == 1
    assert await any_queue.release_all("second") == 0
    assert await any_queue.release_all("first") == 1
    assert await any_queue.counts() == {"pending": 1}


async def test_a_failed_attempt_waits_its_time(any_queue):
    await any_queue.add("k", {})
    (item,) = await any_queue.claim("w")
    await any_queue.fail(item, "odd", retry_in=60)
    assert await any_queue.claim("w") == []
    assert 0 < await any_queue.seconds_until_due() <= 60
    await pass_time(any_queue, 60)
    (item,) = await any_queue.claim("w")
    assert item.attempt == 2


# What workers do.


async def test_outages_are_waited_out_in_place_and_data_faults_end_at_once(any_queue):
    attempts = {"away": 0, "wrong": 0, "odd": 0}
    given_up = []

    async def on_failure(item, error):
        given_up.append((item.key, str(error)))

    async def handle(lease):
        attempts[lease.item.key] += 1
        if lease.item.key == "wrong":
            raise Rejected("WRONG", "no such column")
        if lease.item.key == "odd" or attempts["away"] < 3:
            raise Outage("the store is away") if lease.item.key == "away" else ValueError("odd")

    for key in attempts:
        await any_queue.add(key, {})
    policy = RetryPolicy(max_attempts=3, wait_initial=0.05, outage_wait_max=0.1)
    async with working(any_queue, handle, retries=policy, on_failure=on_failure):
        await until(counted(any_queue, succeeded=1, failed=2))
    assert sorted(given_up) == [("odd", "odd"), ("wrong", "no such column")]
    assert attempts == {"away": 3, "wrong": 1, "odd": 3}


async def test_an_item_that_kills_its_workers_is_given_up(any_queue):
    await any_queue.add("k", {})
    for _ in range(3):
        await any_queue.claim("dies")
        await pass_time(any_queue, any_queue.lease_seconds)

    async def handle(_lease):
        raise AssertionError

    async with working(any_queue, handle, retries=RetryPolicy(max_claims=3)):
        await until(counted(any_queue, failed=1))


async def test_progress_is_in_the_table_while_the_handler_runs(pool, name):
    queue = WorkQueue(pool, name, lease_seconds=2)
    seen = asyncio.Event()

    async def handle(lease):
        lease.report({"bytes": 7})
        await seen.wait()

    async def reported():
        progress = await pool.fetchval("select progress from api.work where queue = $1", name)
        return progress == {"bytes": 7}

    await queue.add("k", {})
    async with working(queue, handle):
        await until(reported)
        seen.set()
        await until(counted(queue, succeeded=1))


async def test_a_handler_whose_lease_is_lost_is_cancelled_and_counted(pool, name):
    queue = WorkQueue(pool, name, lease_seconds=2)
    await queue.add("k", {})
    ended = asyncio.Event()

    async def handle(lease):
        await pool.execute("update work.items set token = nextval('work.tokens') where queue = $1", name)
        try:
            await asyncio.sleep(30)
        finally:
            with pytest.raises(LeaseLost):
                lease.check()
            ended.set()

    async with working(queue, handle, concurrency=1) as worker:
        await asyncio.wait_for(ended.wait(), 20)
        worker.stop()
    assert LEASE_LOST.labels(name)._value.get() == 1


async def test_shutdown_lets_handlers_finish_then_releases_the_rest(queue):
    started = asyncio.Event()

    async def handle(lease):
        if lease.item.key == "long":
            started.set()
            await asyncio.sleep(60)
        await asyncio.sleep(0.1)

    await queue.add("long", {})
    await queue.add("short", {})
    async with working(queue, handle, grace=2.0):
        await started.wait()
    assert await queue.counts() == {"pending": 1, "succeeded": 1}
    (item,) = await queue.claim("next")
    assert (item.key, item.attempt) == ("long", 1)


async def test_a_cancelled_worker_drains_too(queue):
    started = asyncio.Event()

    async def handle(_lease):
        started.set()
        await asyncio.sleep(60)

    await queue.add("k", {})
    running = asyncio.create_task(Worker(queue, handle, concurrency=1, retries=RetryPolicy(), grace=0.1).run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await queue.counts() == {"pending": 1}


async def test_a_notification_wakes_an_idle_worker(queue):
    done = asyncio.Event()

    async def handle(_lease):
        done.set()

    async with working(queue, handle):
        await until(lambda: _listening(queue))
        started = time.monotonic()
        await queue.add("k", {})
        await done.wait()
    assert time.monotonic() - started < POLL_SECONDS


async def _listening(queue):
    return await queue._pool.fetchval(
        "select count(*) > 0 from pg_stat_activity where query like 'LISTEN%' and state = 'idle'"
    )


# What must hold whatever happens.


async def test_what_ended_well_long_ago_is_forgotten_and_what_failed_is_not(pool, queue):
    for key in ("old", "new", "failed", "waiting"):
        await queue.add(key, {})
    for item in await queue.claim("one", 4):
        match item.key:
            case "failed":
                await queue.fail(item, "odd", retry_in=None)
            case "old" | "new":
                await queue.complete(item)
            case _:
                await queue.release(item)
    await pool.execute(
        "update work.items set finished_at = now() - interval '31 days'"
        " where queue = $1 and key <> 'new' and finished_at is not null",
        queue.name,
    )
    async with working(queue, _never, concurrency=1):
        await until(counted(queue, succeeded=1, failed=1, running=1))
    keys = await pool.fetch("select key from work.items where queue = $1 order by key", queue.name)
    assert [row["key"] for row in keys] == ["failed", "new", "waiting"]


async def _never(_lease):
    await asyncio.Event().wait()


async def test_two_adds_race_and_one_wins(queue):
    for number in range(20):
        added = await asyncio.gather(*(queue.add(f"k{number}", {"by": who}) for who in range(8)))
        assert added.count(True) == 1


async def test_an_item_exists_when_the_transaction_that_added_it_commits(pool, queue):
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await queue.add("k", {}, connection=connection)
        assert await queue.counts() == {}
        await transaction.rollback()
    assert await queue.counts() == {}


async def test_a_worker_whose_clock_is_an_hour_ahead_changes_nothing(pool, name, monkeypatch):
    queue = WorkQueue(pool, name, lease_seconds=30)
    await queue.add("k", {})
    (item,) = await queue.claim("right")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert await queue.claim("ahead") == []
    await queue.heartbeat(item)
    assert 0 < await queue.seconds_until_due() <= 30
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    assert await queue.claim("behind") == []
    await queue.complete(item)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "paused"])
async def test_a_process_that_dies_or_sleeps_loses_nothing_and_repeats_nothing(pool, dsn, name, fate):
    queue = WorkQueue(pool, name, lease_seconds=5)
    for number in range(200):
        await queue.add(f"k{number}", {})
    processes = [await _start_workers(dsn, queue, 3, work_seconds=0.5)]
    try:
        await until(lambda: _done_at_least(pool, name, 3))
        processes += [await _start_workers(dsn, queue, workers, work_seconds=0.05) for workers in (3, 2)]
        await until(lambda: _done_at_least(pool, name, 50))
        processes[0].send_signal(fate)
        gone_at = time.monotonic()
        await until(counted(queue, succeeded=200))
        seconds = time.monotonic() - gone_at
        if fate is signal.SIGSTOP:  # the zombie wakes and wants to complete what others have done
            processes[0].send_signal(signal.SIGCONT)
            await until(lambda: _said(processes[0], b"work.lease_lost"))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
    done = await effects(pool, name)
    assert sorted(key for key, _ in done) == sorted(f"k{number}" for number in range(200))
    taken_over = [key for key, attempt in done if attempt > 1]
    print(f"{fate.name}: {len(taken_over)} taken over, all done {seconds:.1f} s later")
    assert 1 <= len(taken_over) <= 3


async def _start_workers(dsn, queue, workers, *, work_seconds):
    script = str(Path(__file__).with_name("worker_process.py"))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        dsn.get_secret_value(),
        queue.name,
        str(workers),
        str(queue.lease_seconds),
        str(work_seconds),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )


async def _said(process, word):
    return word in await process.stdout.readline()


async def _done_at_least(pool, name, expected):
    return len(await effects(pool, name)) >= expected


async def test_postgres_restarted_under_work_loses_nothing_and_repeats_nothing(servers, pool, name):
    queue = WorkQueue(pool, name)
    for number in range(100):
        await queue.add(f"k{number}", {})

    async def handle(lease):
        await asyncio.sleep(0.05)
        async with pool.acquire() as connection, connection.transaction():
            await queue.complete(lease.item, connection=connection)
            await connection.execute(
                "insert into work_test.effects values ($1, $2, $3)", name, lease.item.key, lease.item.attempt
            )

    async with working(queue, handle):
        await until(lambda: _done_at_least(pool, name, 20))
        started = time.monotonic()
        await asyncio.to_thread(servers.restart, "postgres")
        restarted = time.monotonic()
        await until(lambda: _survived(counted(queue, succeeded=100)), 60)
        print(f"restart {restarted - started:.1f} s, all done {time.monotonic() - restarted:.1f} s after it")
    assert sorted(key for key, _ in await effects(pool, name)) == sorted(f"k{n}" for n in range(100))


async def _survived(condition):
    try:
        return await condition()
    except Exception:  # noqa: BLE001 - the server is being restarted
        return False


STEPS = st.lists(
    st.tuples(st.sampled_from(["claim", "heartbeat", "expire", "complete", "fail", "release"]), st.integers(0, 2)),
    max_size=25,
)


def test_any_interleaving_has_at_most_one_effective_completion(dsn):
    with asyncio.Runner() as runner:
        opened = open_pool(dsn, service="test")
        pool = runner.run(opened.__aenter__())

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(STEPS)
        def interleave(steps):
            runner.run(_interleave(pool, steps))

        try:
            interleave()
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def _interleave(pool, steps):
    """Let three workers take the steps; each goes on with what it held last, so all but one are zombies."""
    queue = WorkQueue(pool, f"test-{uuid.uuid4().hex[:12]}")
    await queue.add("k", {})
    held, completions = {}, []
    for step, worker in steps:
        if step == "claim":
            held.update((worker, item) for item in await queue.claim(str(worker)))
        elif step == "expire":
            await pool.execute(
                "update work.items set lease_until = now() where queue = $1 and state = 'running'", queue.name
            )
        elif item := held.get(worker):
            try:
                await _write(pool, queue, step, item)
            except LeaseLost:
                continue
            if step == "complete":
                completions.append(item.token)
    newest = max((item.token for item in held.values()), default=None)
    assert len(completions) <= 1
    assert completions in ([], [newest]), "only the newest token completes"
    assert await queue.counts() in ([{"succeeded": 1}] if completions else [{"pending": 1}, {"running": 1}])


async def _write(pool, queue, step, item):
    if step == "complete":
        async with pool.acquire() as connection, connection.transaction():
            await queue.complete(item, connection=connection)
    elif step == "fail":
        await queue.fail(item, "odd", retry_in=0)
    elif step == "heartbeat":
        await queue.heartbeat(item)
    else:
        await queue.release(item)
