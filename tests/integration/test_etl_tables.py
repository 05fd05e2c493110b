"""Tables equal the bucket on a real Postgres, for any order and repetition of events."""

import asyncio
import gzip
import sys
import unicodedata
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from importlib import resources
from itertools import permutations

import pytest

from shared.errors import Rejected
from shared.events import EtlLoaded, EtlRequested, ObjectChanged
from shared.storage import ObjectRef
from shared.work import Lease
from tests.fakes.etl import BUCKET, etl_on
from tests.support import uploads

pytestmark = pytest.mark.integration

ADA, BOB = ("Ada", "Lovelace", 946_684_800_000), ("Bob", "Bobson", 946_771_200_000)
COLUMN = '[{}.columns.{}]\ntype = "text"\n'


def person(number):
    return f"First{number}", f"Last{number}", 946_684_800_000 + number * 86_400_000


def csv(row):
    return uploads.one_row("x", row).body


def many(rows, *bad):
    return uploads.many_rows("x", rows, bad).body


PNG = uploads.image("1000").body


@pytest.fixture
async def etl(servers):
    async with etl_on(servers.env) as etl:
        yield etl


@pytest.mark.parametrize("order", list(permutations(("csv", "png"))))
async def test_file_and_image_join_in_any_order(etl, order):
    bodies = {"csv": csv(ADA), "png": PNG}
    for ending in order:
        await etl.deliver(await etl.put(f"1000.{ending}", bodies[ending]))
    assert await etl.rows() == {"1000": (*ADA, f"src-data/{etl.name}/1000.png")}


@pytest.mark.parametrize("forms", list(permutations(("NFC", "NFD"))))
async def test_file_and_image_join_across_name_spellings(etl, forms):
    one, other = (unicodedata.normalize(form, "José") for form in forms)
    await etl.deliver(await etl.put(f"{one}.csv", csv(ADA)), await etl.put(f"{other} .png", PNG))
    assert await etl.rows() == {"José": (*ADA, f"src-data/{etl.key(f'{other} .png')}")}
    await etl.deliver(await etl.put("all.csv", many({f"\u200b{other}": BOB, one: ADA})))
    assert await etl.rejects() == [("all.csv", 3, "DUPLICATE_KEY")]


async def test_first_load_after_upgrade_reloads_ambiguous_files(etl):
    names = ("1.csv", "1.png", "José.png")
    await etl.deliver(*[await etl.put(name, PNG if name.endswith("png") else csv(ADA)) for name in names])
    statement = resources.files("services.etl.migrations").joinpath("0004.values.sql").read_text("utf-8")
    await etl.pool.execute(statement[statement.index("UPDATE") :].replace("WHERE", f"WHERE dataset = '{etl.name}' AND"))
    assert (await etl.load()).changed == 2
    assert (await etl.load()).changed == 0


async def test_image_without_file_has_no_row_and_file_without_image_has_none(etl):
    await etl.deliver(await etl.put("1000.png", PNG), await etl.put("1001.csv", csv(BOB)))
    assert await etl.rows() == {"1001": (*BOB, "")}


async def test_replaced_objects_update_row(etl):
    await etl.deliver(await etl.put("1000.csv", csv(ADA)), await etl.put("1000.png", PNG))
    await etl.deliver(
        await etl.put("1000.csv", csv(BOB)), await etl.put("1000.png", uploads.image("x", kind="gif").body)
    )
    assert (await etl.rows())["1000"][:3] == BOB
    assert await etl.pool.fetchval(f"select img_type from api.{etl.name}") == "image/gif"  # noqa: S608


async def test_removed_objects_clear_image_or_row(etl):
    await etl.deliver(
        *[await etl.put(name, body) for name, body in (("1.csv", csv(ADA)), ("1.png", PNG), ("2.csv", csv(BOB)))]
    )
    await etl.deliver(await etl.remove("1.png"))
    assert await etl.rows() == {"1": (*ADA, ""), "2": (*BOB, "")}
    await etl.deliver(await etl.remove("1.csv"))
    assert await etl.rows() == {"2": (*BOB, "")}
    assert [fact.change for fact in etl.facts()] == ["stored"] * 3 + ["removed"] * 2


async def test_duplicate_event_republishes_fact_without_reading_or_writing(etl):
    change = await etl.put("1000.csv", csv(ADA))
    await etl.deliver(change, change)
    reads, changed = etl.store.reads, await etl.changed()
    await etl.deliver(change)
    assert (etl.store.reads, await etl.changed()) == (reads, changed)
    published = [one.headers["ce_id"] for one in etl.wired.recorder.published if one.topic == EtlLoaded.topic.name]
    assert len(published) == 2
    assert len(set(published)) == 1


async def test_late_and_unordered_events_end_with_table_equal_to_bucket(etl):
    first, second = await etl.put("1.csv", csv(ADA)), await etl.remove("1.csv")
    third = await etl.put("1.csv", csv(BOB))
    for change in (third, first, second):
        await etl.deliver(change)
    assert await etl.rows() == {"1": (*BOB, "")}
    reads = etl.store.reads
    await etl.deliver(first, second)
    assert etl.store.reads == reads


async def test_replaced_file_with_fewer_rows_removes_rows(etl):
    everybody = {f"{user}": person(user) for user in range(20)}
    await etl.deliver(await etl.put("all.csv", many(everybody)))
    assert len(await etl.rows()) == 20
    fewer = {**dict(list(everybody.items())[:5]), "3": BOB}
    stamp = f"select user_id, xmin::text from etl.{etl.name} where user_id in ('0', '1')"  # noqa: S608
    before = await etl.pool.fetch(stamp)
    await etl.deliver(await etl.put("all.csv", many(fewer)))
    assert {user: row[:3] for user, row in (await etl.rows()).items()} == fewer
    assert await etl.pool.fetch(stamp) == before, "rows that stand as they are, are not written"


async def test_latest_of_two_files_of_one_user_wins_until_removed(etl):
    await etl.deliver(await etl.put("1.csv", csv(ADA)), await etl.put("all.csv", many({"1": BOB})))
    later = "update etl.sources set stored_at = stored_at + interval '1 minute' where key = $1"
    await etl.pool.execute(later, etl.key("all.csv"))
    assert (await etl.rows())["1"][:3] == BOB
    await etl.deliver(await etl.remove("all.csv"))
    assert (await etl.rows())["1"][:3] == ADA


async def test_bad_rows_are_stored_with_reason_until_corrected(etl):
    await etl.deliver(
        await etl.put("all.csv", many({"1": ADA}, "2,Bob,Bobson,yesterday")), await etl.put("3.csv", csv(BOB))
    )
    assert set(await etl.rows()) == {"1", "3"}
    ((name, line, _),) = await etl.rejects()
    assert (name, line) == ("all.csv", 3)
    facts = {fact.key.rpartition("/")[2]: fact for fact in etl.facts()}
    assert (facts["all.csv"].rows, facts["all.csv"].rejected) == (1, 1)
    assert "birthts" in facts["all.csv"].reason
    stale = "select key from etl.sources where dataset = $1 and is_stale"
    assert [row["key"] for row in await etl.pool.fetch(stale, etl.name)] == [etl.key("all.csv")]
    await etl.pool.execute(
        "update etl.sources set is_stale = false, has_rejects_file = true where dataset = $1 and is_stale", etl.name
    )
    await etl.deliver(await etl.put("all.csv", many({"1": ADA, "2": BOB})))
    assert (await etl.rejects(), set(await etl.rows())) == ([], {"1", "2", "3"})
    assert [row["key"] for row in await etl.pool.fetch(stale, etl.name)] == [etl.key("all.csv")], "its file has to go"


async def test_bad_file_and_bad_image_do_not_block_others(etl):
    await etl.deliver(
        await etl.put("1.csv", b"nonsense"),
        await etl.put("1.png", b"text"),
        await etl.put("2.csv", csv(BOB)),
        await etl.put("2.png", b""),
        await etl.put("3.csv.gz", b"no gzip"),
        await etl.put("4.csv.gz", gzip.compress(csv(ADA))),
    )
    assert await etl.rows() == {"2": (*BOB, ""), "4": (*ADA, "")}
    assert [(name, line) for name, line, _ in await etl.rejects()] == [
        ("1.csv", 0),
        ("1.png", 0),
        ("2.png", 0),
        ("3.csv.gz", 0),
    ]


async def test_image_with_impossible_size_has_no_size(etl):
    hostile = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\xff" * 8 + b"\x08\x02" + bytes(7)
    await etl.deliver(await etl.put("1.png", hostile), await etl.put("1.csv", csv(ADA)))
    (row,) = await etl.pool.fetch(f"select img_type, img_width, img_height from api.{etl.name}")  # noqa: S608
    assert tuple(row) == ("image/png", None, None)
    assert etl.wired.recorder.dead_letters() == []


async def test_first_row_of_duplicate_key_wins(etl):
    body = many({"1": ADA}, "1,Bob,Bobson,946771200000", "1,Cid,Bobson,946771200000", "2,Bob,Bobson,946771200000")
    await etl.deliver(await etl.put("all.csv", body), await etl.put("other.csv", many({"1": ADA})))
    assert await etl.rejects() == [("all.csv", 3, "DUPLICATE_KEY"), ("all.csv", 4, "DUPLICATE_KEY")]
    assert {user: row[:3] for user, row in (await etl.rows()).items()} == {"1": ADA, "2": BOB}
    ((rows, rejected),) = {(fact.rows, fact.rejected) for fact in etl.facts() if fact.key.endswith("all.csv")}
    assert (rows, rejected) == (2, 2)


async def test_first_rejects_are_stored_and_all_are_counted(servers):
    async with etl_on(servers.env, etl_rejects_kept=3) as etl:
        bad = [f"{number},Bob,Bobson,never" for number in range(10)] + ["a,Bob,Bobson,946771200000"] * 5
        await etl.deliver(await etl.put("all.csv", many({"a": ADA}, *bad)))
        assert [line for _, line, _ in await etl.rejects()] == [3, 4, 5]
        assert (etl.facts()[0].rows, etl.facts()[0].rejected) == (1, 15)


async def test_digests_are_saved_before_or_after_change(etl):
    before, after = await etl.put("1.png", PNG), await etl.put("2.png", PNG)
    await etl.hashed(before, sha256="aa")
    await etl.deliver(before, after, await etl.put("1.csv", csv(ADA)), await etl.put("2.csv", csv(BOB)))
    await etl.hashed(after, sha256="bb")
    view = f"select user_id, img_sha256 from api.{etl.name} order by 1"  # noqa: S608
    assert [tuple(row) for row in await etl.pool.fetch(view)] == [("1", "aa"), ("2", "bb")]
    newer = await etl.put("2.png", uploads.image("other").body)
    await etl.deliver(newer)
    assert [tuple(row) for row in await etl.pool.fetch(view)] == [("1", "aa"), ("2", None)]
    await etl.hashed(newer, sha256="cc")
    await etl.hashed(after, sha256="bb")
    assert [tuple(row) for row in await etl.pool.fetch(view)] == [("1", "aa"), ("2", "cc")], "an older hash comes late"


async def test_unclaimed_objects_are_ignored(etl):
    await etl.store.put(ObjectRef(BUCKET, "elsewhere.csv"), csv(ADA))
    elsewhere = ObjectChanged(bucket=BUCKET, key="elsewhere.csv", change="stored", revision=1)
    await etl.deliver(await etl.put("readme.txt", b"hello"), elsewhere)
    assert (etl.store.reads, etl.facts()) == (0, [])


async def test_unknown_dataset_is_rejected_with_list_of_known_ones(etl):
    await etl.deliver(EtlRequested(load_id="one", dataset="nobody"))
    assert etl.wired.recorder.dead_letter_codes() == ["UNKNOWN_DATASET"]
    assert etl.name in etl.wired.recorder.dead_letters()[0].headers["dlq_reason"]


async def test_load_finds_objects_without_events_and_removes_missing_ones(etl):
    await etl.deliver(
        await etl.put("1.csv", csv(ADA)), await etl.put("2.csv", csv(ADA)), await etl.put("3.csv", csv(ADA))
    )
    await etl.put("2.csv", csv(BOB))
    await etl.remove("3.csv")
    await etl.put("4.csv", csv(BOB))
    await etl.put("1.png", PNG)
    done = await etl.load()
    path = f"src-data/{etl.name}/1.png"
    assert await etl.rows() == {"1": (*ADA, path), "2": (*BOB, ""), "4": (*BOB, "")}
    assert (done.listed, done.changed, done.removed, done.rows, done.rejected) == (4, 3, 1, 2, 0)
    assert {fact.key for fact in etl.facts()[3:]} == {etl.key(name) for name in ("1.png", "2.csv", "3.csv", "4.csv")}
    assert {fact.correlation_id for fact in etl.facts()[3:]} == {done.correlation_id}


async def test_second_load_reads_and_writes_nothing(servers):
    async with etl_on(servers.env, etl_slice=3) as etl:
        for user in range(10):
            await etl.put(f"{user}.csv", csv(person(user)))
            await etl.put(f"{user}.png", PNG)
        first = await etl.load()
        reads, changed = etl.store.reads, await etl.changed()
        second = await etl.load()
        assert (first.changed, second.changed, second.listed) == (20, 0, 20)
        assert (etl.store.reads, await etl.changed()) == (reads, changed)
        assert await etl.file_queue.counts() == {}


async def test_load_reports_progress_including_fraction_of_large_file(servers):
    async with etl_on(servers.env, etl_slice=2, etl_large_bytes=200) as etl:
        for number in range(6):
            await etl.put(f"{number}.csv", csv(person(number)))
        await etl.put("many.csv", many({str(number): person(number) for number in range(10, 40)}))
        await etl.deliver(EtlRequested(load_id=uuid.uuid4().hex, dataset=etl.name))
        (item,) = await etl.load_queue.claim("test")
        lease = Lease(item)
        loading = asyncio.create_task(etl.full.load(lease))
        await until(lambda: (lease.progress or {}).get("done") == 0)
        (listed, differing) = lease.progress["listed"], lease.progress["differing"]
        assert (listed, differing) == (7, 7)
        pieces = await etl.file_queue.claim("test", 10)
        assert len(pieces) == 4
        for piece in pieces:
            if len(piece.payload["objects"]) == 2:
                await etl.large.load(Lease(piece))
                await etl.file_queue.complete(piece)
            else:
                await etl.file_queue.heartbeat(piece, {"bytes": 50, "size": 100})
        await until(lambda: lease.progress["done"] == 0.875)
        assert lease.progress["message"].startswith("88% of 7 objects read")
        for piece in pieces:
            if len(piece.payload["objects"]) == 1:
                await etl.large.load(Lease(piece))
                await etl.file_queue.complete(piece)
        await loading
        assert len(await etl.rows()) == 36


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_interrupted_load_completes_the_rest(servers):
    async with etl_on(servers.env, etl_slice=2) as etl:
        for user in range(10):
            await etl.put(f"{user}.csv", csv(person(user)))
        await etl.deliver(EtlRequested(load_id=etl.name, dataset=etl.name))
        (item,) = await etl.load_queue.claim("test")
        loading = asyncio.ensure_future(etl.full.load(Lease(item)))
        cut = asyncio.Event()
        listening = asyncio.ensure_future(etl.file_queue.listen(cut.set))
        while not (slices := await etl.file_queue.claim("test", 2)):
            await cut.wait()
            cut.clear()
        for one in slices:
            await etl.large.load(Lease(one))
        await etl.file_queue.complete(slices[0])
        for task in (loading, listening):
            task.cancel()
        await asyncio.wait((loading, listening))
        await etl.load_queue.release(item)
        await etl.file_queue.release_all("test")
        done = await etl.work_on_load()
        assert (len(await etl.rows()), done.changed, etl.store.reads) == (10, 10, 10)
        assert len({fact.key for fact in etl.facts()}) == 10


async def test_failing_object_does_not_block_its_chunk(etl):
    for user in range(5):
        await etl.put(f"{user}.csv", csv(person(user)))
    read = etl.store.read

    async def refused(ref, **how):
        if ref.key == etl.key("3.csv"):
            raise Rejected("ACCESS_DENIED", "no")
        return await read(ref, **how)

    etl.store.read = refused
    with pytest.raises(Rejected, match=r"1 of \d+ chunks"):
        await etl.load()
    assert set(await etl.rows()) == {"0", "1", "2", "4"}


async def test_write_between_fetch_and_write_is_not_overwritten(servers, etl):
    """Two processes race for one object: the one that fetched before the other wrote fetches again."""
    async with etl_on(servers.env, etl.store, etl.name) as other:
        first = await etl.put("1.csv", csv(ADA))
        looked, go_on = asyncio.Event(), asyncio.Event()
        fetch_all = etl.loader.bucket.fetch_all

        async def slowly(files):
            found = await fetch_all(files)
            looked.set()
            await go_on.wait()
            return found

        etl.loader.bucket.fetch_all = slowly
        late = asyncio.ensure_future(etl.loader.load([etl.loader.file_to_load(first)]))
        await looked.wait()
        second = await etl.put("1.csv", csv(BOB))
        await other.loader.load([other.loader.file_to_load(second)])
        go_on.set()
        assert await late == [], "the other one tells"
        assert await etl.rows() == {"1": (*BOB, "")}


async def test_racing_processes_end_with_table_equal_to_bucket(servers, etl):
    async with etl_on(servers.env, etl.store, etl.name) as other:
        changes = [await etl.put(f"{user}.csv", csv(person(user + turn))) for turn in range(3) for user in range(30)]
        files = [etl.loader.file_to_load(change) for change in changes]
        await asyncio.gather(
            *(one.loader.load(part) for one in (etl, other) for part in (files[:30], files[30:60], files[60:]))
        )
        assert {user: row[:3] for user, row in (await etl.rows()).items()} == {
            f"{user}": person(user + 2) for user in range(30)
        }


@pytest.fixture
async def streaming(servers):
    async with etl_on(servers.env, etl_large_bytes=100) as etl:
        yield etl


async def test_large_file_becomes_leased_work_with_progress(streaming):
    etl, everybody = streaming, {f"{user:04}": person(user) for user in range(2000)}
    change = await etl.put("all.csv", many(everybody, "bad,Bob,Bobson,never", "0000,Bob,Bobson,946771200000"))
    await etl.deliver(change)
    assert (etl.facts(), await etl.rows()) == ([], {})
    (lease,) = await etl.work()
    assert {user: row[:3] for user, row in (await etl.rows()).items()} == everybody
    assert [(line, code) for _, line, code in await etl.rejects()][1:] == [(2003, "DUPLICATE_KEY")]
    (fact,) = etl.facts()
    assert (fact.rows, fact.rejected, fact.etag, fact.correlation_id) == (2000, 2, change.etag, change.correlation_id)
    assert lease.progress["bytes"] == lease.progress["size"] == change.size
    fewer = dict(list(everybody.items())[:1000])
    await etl.deliver(await etl.put("all.csv", many(fewer)))
    await etl.work()
    assert (len(await etl.rows()), await etl.rejects()) == (1000, [])


async def test_distant_duplicate_key_in_large_file_is_rejected(streaming):
    etl, everybody = streaming, {f"{user:06}": person(user % 9000) for user in range(60_000)}
    body = many(everybody, "000007,Bob,Bobson,946771200000")
    assert len(body) > 2 << 20, "it is read in several batches"
    await etl.deliver(await etl.put("all.csv", body))
    await etl.work()
    assert await etl.rejects() == [("all.csv", 60_002, "DUPLICATE_KEY")]
    assert (etl.facts()[0].rows, (await etl.rows())["000007"][:3]) == (60_000, person(7))


async def test_large_file_replaced_while_read_is_read_again(streaming):
    etl = streaming
    await etl.deliver(await etl.put("all.csv", many({f"{user}": ADA for user in range(100)})))
    filling, turns = etl.loader.tables.transaction, []

    @asynccontextmanager
    async def replaced(dataset):
        if not turns:
            await etl.put("all.csv", many({f"{user}": BOB for user in range(50)}))
        turns.append(dataset)
        async with filling(dataset) as given:
            yield given

    etl.loader.tables.transaction = replaced
    await etl.work()
    assert [row[:3] for row in (await etl.rows()).values()] == [BOB] * 50
    assert (len(turns), [fact.rows for fact in etl.facts()]) == (2, [50])


async def test_large_file_removed_before_read_has_no_rows(streaming):
    etl = streaming
    await etl.deliver(await etl.put("all.csv", many({f"{user}": ADA for user in range(100)})))
    await etl.remove("all.csv")
    await etl.work()
    assert (await etl.rows(), [fact.change for fact in etl.facts()]) == ({}, ["removed"])


async def test_rejected_large_file_leaves_no_rows(streaming):
    etl = streaming
    whole = gzip.compress(many({f"{user}": person(user) for user in range(5000)}), 1)
    await etl.deliver(await etl.put("all.csv.gz", whole[:-2000]))
    await etl.work()
    assert (await etl.rows(), [(line, name) for name, line, _ in await etl.rejects()]) == ({}, [(0, "all.csv.gz")])
    await etl.deliver(await etl.put("all.csv.gz", whole))
    await etl.work()
    assert (len(await etl.rows()), await etl.rejects()) == (5000, [])


async def test_small_compressed_file_of_many_rows_is_streamed(servers):
    async with etl_on(servers.env, etl_large_bytes=5000) as etl:
        body = gzip.compress(many({f"{user}": ADA for user in range(5000)}))
        await etl.deliver(await etl.put("all.csv.gz", body[:1]), await etl.put("all.csv.gz", body))
        await etl.work()
        assert len(await etl.rows()) == 5000


async def test_full_load_waits_for_small_compressed_file_of_many_rows(servers):
    async with etl_on(servers.env, etl_large_bytes=5000) as etl:
        await etl.put("all.csv.gz", gzip.compress(many({f"{user}": ADA for user in range(5000)})))
        done = await etl.load()
        assert (done.listed, done.changed, done.rows) == (1, 1, 5000)


async def test_changed_declaration_recreates_and_reloads_table(servers, etl):
    await etl.deliver(await etl.put("1.csv", b"first_name,last_name,birthts,town\nAda,Lovelace,946684800000,London\n"))
    assert (await etl.rows(), [code for *_, code in await etl.rejects()]) == ({}, ["EXTRA_COLUMN"])
    async with etl_on(servers.env, etl.store, etl.name, COLUMN.format(etl.name, "town")) as other:
        assert await other.rejects() == []
        await other.load()
        assert await other.pool.fetchval(f"select town from api.{etl.name}") == "London"  # noqa: S608


EVERY_TYPE = """
[{0}_types]
bucket = "src-data"
prefix = "{0}-types/"
key = "k"

[{0}_types.columns]
t = {{ type = "text" }}
i = {{ type = "integer" }}
n = {{ type = "number" }}
b = {{ type = "boolean" }}
d = {{ type = "date" }}
at = {{ type = "timestamp" }}
ms = {{ type = "milliseconds" }}
"""


async def test_extreme_values_of_every_type_are_exact(servers):
    name = f"u{uuid.uuid4().hex[:10]}"
    async with etl_on(servers.env, name=name, columns=EVERY_TYPE.format(name)) as etl:
        lines = [
            "k,t,i,n,b,d,at,ms",
            '1,"a ""b""\n\\.",9223372036854775807,1.7976931348623157e308,yes,9999-12-31,9999-12-31T23:59:59.999999Z,0',
            "2,\\N,-9223372036854775808,5e-324,no,0001-01-01,0001-01-01T00:00:00Z,-62135596800000",
            "3,,,,,,,",
            "4,=1+1,0,-0.0,TRUE,2024-02-29,2024-02-29T12:00:00+05:30,",
        ]
        key = f"{name}-types/all.csv"
        await etl.store.put(ObjectRef(BUCKET, key), "\n".join(lines).encode())
        await etl.deliver(ObjectChanged(bucket=BUCKET, key=key, change="stored", revision=1))
        rejects = await etl.pool.fetch("select row, reason from api.rejects where key = $1", key)
        rows = await etl.pool.fetch(f"select t, i, n, b, d, at, ms from etl.{name}_types order by k")  # noqa: S608
        noon = datetime(2024, 2, 29, 6, 30, tzinfo=UTC)
        assert (rejects, [tuple(row) for row in rows]) == (
            [],
            [
                (
                    'a "b"\n\\.',
                    2**63 - 1,
                    sys.float_info.max,
                    True,
                    date.max,
                    datetime.max.replace(tzinfo=UTC),
                    0,
                ),
                ("\\N", -(2**63), 5e-324, False, date.min, datetime.min.replace(tzinfo=UTC), -62_135_596_800_000),
                (None,) * 7,
                ("=1+1", 0, -0.0, True, date(2024, 2, 29), noon, None),
            ],
        )
