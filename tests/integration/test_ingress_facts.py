"""Facts on real servers: the timeline, the stream of events, what was lost and comes back."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from services.ingress.adapters.fact_table import FactTable
from services.ingress.adapters.feed import Feed
from services.ingress.adapters.permit_pools import limiter
from services.ingress.core.facts import Fact
from services.ingress.settings import IngressSettings
from shared.events import DeadLetterSettled
from shared.postgres import open_pool
from shared.topics import OBJECTS_HASHED
from tests.support.ingress import client, put, serve
from tests.support.stream import following
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SETTINGS = {"ingress": {}}
STORED, HASHED, DEAD_LETTERED = "objects.changed.v1", "objects.hashed.v1", "dead-letters.buried.v1"


@pytest.fixture
def api(system):
    serve(system)
    with client(system) as api:
        yield api


def timeline(system, api, name, **query):
    return api.get(f"/timeline/inbox/{system.prefix}{name}", params=query)


def facts(system, api, name):
    answer = timeline(system, api, name)
    return answer.json()["facts"] if answer.status_code == 200 else []


def types(found):
    return [fact["type"] for fact in found]


def test_timeline_lists_the_facts_of_an_object_in_order(system, api):
    began = datetime.now(UTC)
    assert put(system, api, "a b+ü.txt", b"hello").status_code == 201
    found = until(lambda: (f := facts(system, api, "a b+ü.txt")) and len(f) == 2 and f, 60, "two facts")
    assert types(found) == [STORED, HASHED]
    assert [fact["service"] for fact in found] == ["ingest", "hasher"]
    assert [fact["summary"] for fact in found] == ["stored, 5 bytes", "hashed: blake3, md5, sha256"]
    times = [datetime.fromisoformat(fact["at"]) for fact in found]
    assert began - timedelta(seconds=5) < times[0] <= times[1] <= datetime.now(UTC) + timedelta(seconds=5)
    assert len({fact["correlation_id"] for fact in found} - {""}) == 1
    rendered = timeline(system, api, "a b+ü.txt").json()
    assert (rendered["object"]["state"], rendered["object"]["size"]) == ("stored", 5)
    assert rendered["digests"][0]["digests"]["md5"] == "5d41402abc4b2a76b9719d911017c592"
    assert (rendered["work"], rendered["next"]) == ([], None)


def test_a_timeline_comes_page_by_page_and_one_of_nothing_is_not_found(system, api):
    system.put("p", b"1")
    until(lambda: len(facts(system, api, "p")) == 2, 60, "two facts")
    first = timeline(system, api, "p", limit=1).json()
    second = timeline(system, api, "p", limit=1, after=first["next"]).json()
    assert types(first["facts"] + second["facts"]) == [STORED, HASHED]
    assert timeline(system, api, "p", limit=1, after=second["next"]).json()["facts"] == []
    assert timeline(system, api, "nobody").status_code == 404
    assert api.get("/timeline/inbox/a%00b").status_code == 404


def test_work_under_way_is_seen_with_the_object(system, api):
    system.serve("hasher", hasher_delay=20)
    system.put("slow", b"slow")
    work = until(lambda: (a := timeline(system, api, "slow")).status_code == 200 and a.json()["work"], 60, "work")
    assert (work[0]["queue"], work[0]["state"] in {"pending", "running"}) == ("digest", True)
    system.serve("hasher")


def test_stream_resumes_after_a_restart_without_loss_or_repetition(system, api):  # noqa: ARG001
    with following(client(system), prefix=system.prefix, type="objects.changed.*") as stream:
        until(lambda: stream.last_id, 30, "the stream is open")
        system.put_all(f"{number:03}" for number in range(50))
        until(lambda: len(stream.keys(system.prefix)) >= 20, 60, lambda: stream.keys(system.prefix))
        with system.without("ingress"):
            until(lambda: stream.is_over, 30, "the stream ends with its server")
            system.put_all(f"{number:03}" for number in range(50, 100))
    with following(client(system), after=stream.last_id, prefix=system.prefix, type="objects.changed.*") as more:
        system.put_all(f"{number:03}" for number in range(100, 120))
        both = lambda: stream.keys(system.prefix) + more.keys(system.prefix)  # noqa: E731
        until(lambda: len(both()) >= 120, 60, lambda: len(both()))
    assert sorted(both()) == [(STORED, f"{number:03}") for number in range(120)]
    seqs = [one["seq"] for one in stream.events + more.events]
    assert seqs == sorted(set(seqs))


def test_the_ingress_stops_at_once_while_streams_are_open(system, api):  # noqa: ARG001
    with following(client(system)) as stream:
        until(lambda: stream.last_id, 30, "the stream is open")
        began = time.monotonic()
        system.stack.stop("ingress")
        assert time.monotonic() - began < 5
        until(lambda: stream.is_over, 10, "the stream is over")


def test_a_stream_outlives_the_database(system, api):  # noqa: ARG001
    with following(client(system), prefix=system.prefix) as stream:
        until(lambda: stream.last_id, 30, "the stream is open")
        system.stack.restart("postgres")
        system.put("after", b"1")
        until(lambda: (STORED, "after") in stream.keys(system.prefix), 60, lambda: stream.events)
        assert not stream.is_over


def test_without_the_database_facts_are_refused_quickly(system, api):
    with system.without("postgres"):
        for path in ("/timeline/inbox/a", "/events", "/webhooks"):
            began = time.monotonic()
            assert api.get(path).status_code == 503, path
            assert time.monotonic() - began < 5, path
    until(lambda: api.get("/webhooks").status_code == 200, 30, "the database is back")


def test_poison_stops_nothing_and_a_dead_letter_is_a_fact_about_its_object(system, api):
    key = f"inbox/{system.prefix}poison".encode()
    poison = [
        b"",
        None,
        b"{",
        b"\x00\xff",
        b'{"a": "\\u0000 \\ud800", "n": NaN}',
        b'"' + b"x" * 900_000 + b'"',
        b"[" * 90_000,
    ]
    topics = ["objects.changed.v1", "objects.hashed.v1", "sweeps.completed.v1", "dead-letters.settled.v1"]
    headers = [("ce_id", b"\xff\x00"), ("ce_time", b"9999-99"), ("ce_type", b"a\nb")]
    system.kafka.send_all([(topic, key, value, headers) for topic in topics for value in poison])
    system.kafka.send("objects.changed.v1.hasher.dlq", b"\x00" * 2_000_000, key, [("dlq_reason", b"\xff\x00")])
    system.put("poison", b"1")
    found = until(lambda: (f := facts(system, api, "poison")) and HASHED in types(f) and f, 90, "it is hashed")
    assert {STORED, HASHED, DEAD_LETTERED} == set(types(found))
    assert types(found).count(DEAD_LETTERED) >= 5
    dead_letter = next(fact for fact in found if fact["type"] == DEAD_LETTERED)
    partition, _, offset = dead_letter["event_id"].partition("/")
    settled = DeadLetterSettled(
        dlq_topic=dead_letter["topic"], partition=partition, offset=offset, action="discarded", at=datetime.now(UTC)
    )
    system.kafka.send(settled.topic.name, settled.model_dump_json().encode(), settled.record_key.encode())
    summaries = lambda: [fact["summary"] for fact in facts(system, api, "poison")]  # noqa: E731
    until(lambda: f"discarded: dead letter of {dead_letter['topic']}" in summaries(), 30, summaries)
    groups = {"ingress": [*topics, "objects.changed.v1.hasher.dlq"]}
    until(lambda: system.kafka.lag(groups) == {"ingress": 0}, 60, lambda: system.kafka.lag(groups))
    assert [topic for topic in system.kafka.names() if topic.endswith(".dlq.ingress.dlq")] == []
    assert system.kafka.read(*(f"{topic}.ingress.dlq" for topic in topics)) == []


def test_a_timeline_that_was_lost_is_read_again_from_the_topics(system, api):
    system.put("kept", b"1")
    before = until(lambda: (f := facts(system, api, "kept")) and len(f) == 2 and f, 60, "two facts")
    system.stack.stop("ingress")
    system.database.rows("TRUNCATE ingress.facts, ingress.rebuilt")
    serve(system)
    after = until(lambda: (f := facts(system, api, "kept")) and len(f) == 2 and f, 60, "two facts again")
    assert [(one["event_id"], one["at"]) for one in after] == [(one["event_id"], one["at"]) for one in before]


def test_a_timeline_is_rebuilt_once_the_member_that_was_killed_has_left(system, api):
    system.put("kept", b"1")
    until(lambda: len(facts(system, api, "kept")) == 2, 60, "two facts")
    system.stack.kill("ingress")
    system.database.rows("TRUNCATE ingress.facts, ingress.rebuilt")
    system.stack.start("ingress")
    until(lambda: len(facts(system, api, "kept")) == 2, 90, "two facts again")


def fact(number, at=None):
    return Fact(
        topic="objects.changed.v1",
        partition=0,
        offset=number,
        event_id=f"rate-{number}",
        type=STORED,
        at=at or datetime.now(UTC),
        service="ingest",
        bucket="inbox",
        key=f"rate/{number}",
        body={"bucket": "inbox", "key": f"rate/{number}", "size": 4096, "etag": "x" * 32, "metadata": {}},
    )


async def in_database(system, job):
    async with open_pool(SecretStr(system.stack.env["PENSTOCK_POSTGRES_DSN"]), service="test") as pool:
        try:
            return await job(FactTable(pool), pool)
        finally:
            await pool.execute("DELETE FROM ingress.facts WHERE event_id LIKE 'rate-%'")


def test_facts_are_read_from_the_topics_fast(system, api):
    system.stack.stop("ingress")
    body = (
        b'{"bucket": "inbox", "key": "rate/%d", "size": 4096, "change": "stored", "etag": "0123456789abcdef0123456789"}'
    )
    headers = [("ce_type", b"penstock.objects.changed.v1"), ("ce_time", datetime.now(UTC).isoformat().encode())]
    system.kafka.send_all(
        (OBJECTS_HASHED.name, b"rate/%d" % number, body % number, [*headers, ("ce_id", b"rate-%d" % number)])
        for number in range(10_000)
    )
    serve(system)
    statement = "SELECT count(*) FROM ingress.facts WHERE event_id LIKE 'rate-%'"
    count = lambda: system.database.rows(statement)[0][0]  # noqa: E731
    before, began = until(count, 60, "the first facts"), time.monotonic()
    until(lambda: count() == 10_000, 120, count)
    print(f"{(10_000 - before) / (time.monotonic() - began):.0f} facts/s from topics to the timeline, after {before}")
    assert api.get("/timeline/inbox/rate/7").json()["facts"][0]["event_id"] == "rate-7"
    system.database.rows("DELETE FROM ingress.facts WHERE event_id LIKE 'rate-%'")


def test_facts_are_stored_fast(system, api):  # noqa: ARG001
    async def job(table, _pool):
        began = time.monotonic()
        for start in range(0, 20_000, 1000):
            assert await table.add([fact(number) for number in range(start, start + 1000)]) == 1000
        return 20_000 / (time.monotonic() - began)

    rate = asyncio.run(in_database(system, job))
    print(f"{rate:.0f} facts/s kept")
    assert rate > 1000


def test_redelivered_fact_is_stored_once(system, api):  # noqa: ARG001
    async def job(table, pool):
        rendered = [fact(1), fact(2), fact(1)]
        added = [await table.add(rendered) for _ in range(100)]
        return added, await pool.fetchval("SELECT count(*) FROM ingress.facts WHERE event_id LIKE 'rate-%'")

    added, rows = asyncio.run(in_database(system, job))
    assert (sum(added), rows) == (2, 2)


def test_cursor_skips_no_fact_inserted_concurrently(system, api):  # noqa: ARG001
    async def job(table, pool):
        seen, done = [], asyncio.Event()

        async def read():
            at = await table.last()
            while True:
                over = done.is_set()
                page = await table.page(at, 100)
                seen.extend(one.event_id for one in page)
                at = page[-1].seq if page else at
                if over and not page:
                    return

        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as writers:
            for writer in range(4):
                for start in range(0, 500, 50):
                    numbers = range(writer * 1000 + start, writer * 1000 + start + 50)
                    writers.create_task(table.add([fact(number) for number in numbers]))
        done.set()
        await reader
        assert isinstance(pool, asyncpg.Pool)
        return [one for one in seen if one.startswith("rate-")]

    seen = asyncio.run(in_database(system, job))
    assert len(seen) == len(set(seen)) == 2000


def test_old_facts_are_deleted_and_readers_get_no_repetition(system, api):  # noqa: ARG001
    async def job(table, pool):
        await table.add([fact(1, datetime.now(UTC) - timedelta(days=31)), fact(2)])
        newest = await table.add([fact(3, datetime.now(UTC) - timedelta(days=31))]) and await table.last()
        await table.delete_older_than(timedelta(days=30))
        assert (
            await table.last() < newest == await Feed(table, limiter("streams", IngressSettings())).start_cursor(newest)
        )
        return await pool.fetch("SELECT event_id FROM ingress.facts WHERE event_id LIKE 'rate-%'")

    assert [row["event_id"] for row in asyncio.run(in_database(system, job))] == ["rate-2"]
