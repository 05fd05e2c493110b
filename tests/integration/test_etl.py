"""Objects in a bucket become rows of a table: etl processes on real servers."""

import gzip
import io
import json
import time

import polars as pl
import pytest

from shared.topics import ETL_COMPLETED, ETL_LOADED
from tests.support import uploads
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SETTINGS = {"ingest": {"doubt_seconds": 2, "sweep_interval": 0, "sweep_at_start": False}}
ADA, BOB = ("Ada", "Lovelace", 946_684_800_000), ("Bob", "Bobson", 946_771_200_000)


def person(number):
    return f"First{number}", f"Last{number}", 946_684_800_000 + number * 86_400_000


def rows(users):
    return {
        row["user_id"]: (row["first_name"], row["last_name"], row["birthts"], row["img_path"]) for row in users.table()
    }


def shows(users, want, within=30):
    until(
        lambda: rows(users) == want,
        within,
        lambda: (rows(users), users.rejects(), users.system.stack.logs("etl")[-4000:]),
    )


def path(users, name):
    return f"src-data/{users.system.prefix}{name}"


def fact(users, name):
    return next((one for one in users.system.facts(ETL_LOADED.name, name, bucket="src-data")), None)


def test_row_follows_its_file_and_image(users):
    users.serve()
    users.put(uploads.one_row("1000", ADA), uploads.image("1000"))
    shows(users, {"1000": (*ADA, path(users, "1000.png"))})
    users.put(uploads.one_row("1000", BOB), uploads.one_row("1001", ADA))
    users.remove("1000.png")
    shows(users, {"1000": (*BOB, ""), "1001": (*ADA, "")})
    users.remove("1000.csv")
    shows(users, {"1001": (*ADA, "")})


def test_change_reaches_table_within_two_seconds(users):
    users.serve()
    users.put(uploads.one_row("1000", ADA))
    shows(users, {"1000": (*ADA, "")})
    took = []
    for user in range(5):
        started = time.monotonic()
        users.put(uploads.one_row("1000", person(user)))
        until(lambda user=user: rows(users).get("1000", ())[:3] == person(user), 10, lambda: rows(users), every=0.02)
        took.append(time.monotonic() - started)
    print(f"{max(took):.2f} s at most")
    assert sorted(took)[2] < 2


def test_every_format_loads_its_rows(users):
    users.serve()
    frame = pl.DataFrame({"user_id": ["p"], "first_name": ["Ada"], "last_name": ["Lovelace"], "birthts": [ADA[2]]})
    parquet = io.BytesIO()
    frame.write_parquet(parquet)
    bodies = {
        "a.tsv": b"first_name\tlast_name\tbirthts\nAda\tLovelace\t946684800000\n",
        "b.jsonl": b'{"user_id": "b", "first_name": "Ada", "last_name": "Lovelace", "birthts": 946684800000}\n',
        "c.csv.gz": gzip.compress(uploads.one_row("c", ADA).body),
        "d.CSV": uploads.one_row("d", ADA).body.decode().encode("utf-16"),
        "p.parquet": parquet.getvalue(),
    }
    users.put(*(uploads.Upload(name, body) for name, body in bodies.items()))
    shows(users, dict.fromkeys("abcdp", (*ADA, "")))


def test_errors_are_reported_and_do_not_block_others(users):
    users.serve()
    users.put(uploads.no_rows("1.csv", b""), uploads.no_image("2"), uploads.no_rows("3.png", b""), uploads.bad_row("4"))
    users.put(uploads.one_row("2", ADA), uploads.one_row("5", BOB))
    shows(users, {"2": (*ADA, ""), "5": (*BOB, "")})
    until(lambda: len(users.rejects()) == 4, 20, users.rejects)
    loaded = until(lambda: fact(users, "4.csv"), 20, "the fact")
    assert (loaded.body["rows"], loaded.body["rejected"], "birthts" in loaded.body["reason"]) == (0, 1, True)


def test_large_file_is_streamed_with_progress(users):
    users.serve(etl_large_bytes=10_000)
    everybody = {f"{user:05}": person(user % 9000) for user in range(200_000)}
    users.put(uploads.many_rows("all", everybody, ["bad,Bob,Bobson,never"]))
    until(lambda: len(users.table("user_id")) == 200_000, 60, lambda: users.system.stack.logs("etl")[-4000:])
    loaded = until(lambda: fact(users, "all.csv"), 20, "the fact").body
    assert (loaded["rows"], loaded["rejected"]) == (200_000, 1)
    question = (
        "SELECT progress FROM api.work WHERE queue = 'etl.files' AND starts_with(key, $1) AND state = 'succeeded'"
    )
    (work,) = until(lambda: users.system.database.rows(question, path(users, "all.csv")), 20, "the work")
    if work["progress"] is not None:  # it may have been too quick for a heartbeat
        assert {"bytes", "size", "rows", "rejected", "rows_per_second", "eta_seconds"} <= set(
            json.loads(work["progress"])
        )


def test_processes_share_load_of_existing_objects(users):
    with users.system.without("ingest"):
        users.put_all(
            [
                upload
                for user in range(60)
                for upload in (uploads.one_row(f"{user}", person(user)), uploads.image(f"{user}"))
            ]
        )
        names = users.serve(3, etl_slice=10)
        want = {f"{user}": (*person(user), path(users, f"{user}.png")) for user in range(60)}
        shows(users, want, 60)
        load = users.loaded(users.ask_for_load())
        assert (load["state"], load["listed"], load["changed"], load["removed"]) == ("succeeded", 120, 0, 0)
        users.remove("0.csv")
        users.put(uploads.one_row("1", BOB))
        load = users.loaded(users.ask_for_load())
        assert (load["changed"], load["removed"], load["rows"]) == (1, 1, 1)
    del want["0"]
    want["1"] = (*BOB, path(users, "1.png"))
    shows(users, want)
    done = until(
        lambda: [one for one in users.facts(ETL_COMPLETED.name) if one.body["load_id"] == load["load_id"]], 20, "it"
    )
    assert [one.body["changed"] for one in done] == [1]
    assert len(names) == 3


def test_scheduled_load_finds_objects_without_events(users):
    with users.system.without("ingest"):
        users.serve(2, etl_interval="2s")
        users.put(uploads.one_row("1", ADA))
        shows(users, {"1": (*ADA, "")})
        users.remove("1.csv")
        shows(users, {})
    question = "SELECT load_id FROM etl.loads WHERE dataset = $1 AND why = 'scheduled' GROUP BY 1 HAVING count(*) > 1"
    assert not users.system.database.rows(question, users.dataset)
