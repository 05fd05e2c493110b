"""Invalid files of all kinds at once: each is rejected with its reason, and the others load."""

import csv
import gzip
import io
import json

import polars as pl
import pytest

from shared.topics import ETL_REQUESTED, OBJECTS_HASHED
from tests.support.memory import peak, reset_peak
from tests.support.uploads import (
    HEAD,
    Upload,
    bad_row,
    guarded,
    image,
    many_rows,
    no_image,
    no_rows,
    one_row,
    pair,
    person,
)
from tests.support.waiting import until

pytestmark = pytest.mark.faults

MIB = 1 << 20
HEADER = b"user_id,first_name,last_name,birthts\n"
GOOD = [str(number) for number in range(1000, 1030)]
ROW = ("Ada", "Lovelace", 0)


def lines(name, body, *rejected, **rows):
    return Upload(name, body, dict.fromkeys(rows, ROW), frozenset(rejected))


BAD = [
    (no_rows("empty.csv", b""), "EMPTY"),
    (no_rows("missing.csv", b"first_name, last_name\nAda, Lovelace\n"), "MISSING_COLUMN"),
    (no_rows("extra.csv", b"first_name, last_name, birthts, shoe_size\nAda, Lovelace, 0, 38\n"), "EXTRA_COLUMN"),
    (no_rows("twice.csv", b"first_name, last_name, birthts, birthts\nAda, Lovelace, 0, 1\n"), "DUPLICATE_COLUMN"),
    (no_rows("keyless.csv", f"{HEAD}Ada, Lovelace, 0\nEve, Lovelace, 0\n".encode()), "NO_KEY"),
    (no_rows("broken.csv.gz", gzip.compress(HEAD.encode() * 100)[:40]), "NOT_GZIP"),
    (no_rows("plain.csv.gz", HEAD.encode()), "NOT_GZIP"),
    (no_rows("no.parquet", b"PAR1 it is not PAR1"), "NOT_PARQUET"),
    (no_image("text"), "NOT_AN_IMAGE"),
    (bad_row("blank", "Ada, , 0"), "BLANK"),
    (bad_row("shifted", "Ada, Lovelace"), "RAGGED"),
    (bad_row("ragged", "Ada, Lovelace, 0, 1"), "RAGGED"),
    (bad_row("word", "Ada, Lovelace, yesterday"), ""),
    (bad_row("fraction", "Ada, Lovelace, 0.5"), ""),
    (bad_row("february", "Ada, Lovelace, 2001-02-31"), ""),
    (bad_row("future", "Ada, Lovelace, 32503680000000"), "OUT_OF_RANGE"),
    (bad_row("absurd", "Ada, Lovelace, 99999999999999999999999999"), ""),
    (bad_row("nul", "A\0da, Lovelace, 0"), "NUL"),
    (bad_row("quote", 'Ada, "Lovelace, 0'), ""),
    (Upload("latin1.csv", HEAD.encode() + b"J\xfcrgen, Lovelace, 0\n", rejected=frozenset({2})), "NOT_UTF8"),
    (Upload("long.csv", HEAD.encode() + b"x" * (3 * MIB) + b"\n", rejected=frozenset({2})), "LINE_TOO_LONG"),
    (lines("words.jsonl", b"no json\n", 1), "NOT_JSON"),
    (lines("same.csv", HEADER + b"same,Ada,Lovelace,0\nsame,Eve,Lovelace,0\n", 3, same=1), "DUPLICATE_KEY"),
    (lines("some.csv", HEADER + b"s1,Ada,Lovelace,0\ns2,Ada\n,Ada,Lovelace,0\n", 3, 4, s1=1), "RAGGED"),
]
"""Each with the code of its first reject, where one is sure."""


def frame_of(rows):
    data = [(user, *row) for user, row in rows.items()]
    return pl.DataFrame(data, schema=["user_id", "first_name", "last_name", "birthts"], orient="row")


def odd_but_good():
    """Return unusual but valid files."""
    rows = {name: person(name) for name in ("bom", "utf16", "tabs", "zipped", "objects", "columns", "windows")}
    of = {name: {name: row} for name, row in rows.items()}
    parquet = io.BytesIO()
    frame_of(of["columns"]).write_parquet(parquet)
    plain = {name: one_row(name).body for name in rows}
    tabs = "first_name\tlast_name\tbirthts\n" + "\t".join(map(str, rows["tabs"])) + "\n"
    formulas = ("=cmd|' /C calc'!A0", "@SUM(A1)", 0)
    return [
        Upload("bom.csv", b"\xef\xbb\xbf" + plain["bom"], of["bom"]),
        Upload("utf16.csv", plain["utf16"].decode().encode("utf-16"), of["utf16"]),
        Upload("windows.csv", plain["windows"].replace(b"\n", b"\r\n"), of["windows"]),
        Upload("zipped.CSV.gz", gzip.compress(plain["zipped"]), of["zipped"]),
        Upload("tabs.tsv", tabs.encode(), of["tabs"]),
        Upload("objects.jsonl", frame_of(of["objects"]).write_ndjson().encode(), of["objects"]),
        Upload("columns.parquet", parquet.getvalue(), of["columns"]),
        Upload("header.csv", HEADER),
        Upload("a.b.c.csv", f"{HEAD}Ada, Lovelace, 0\n".encode(), {"a.b.c": ROW}),
        Upload("=1+1.csv", f"{HEAD}{', '.join(map(str, formulas))}\n".encode(), {"=1+1": formulas}),
        image("a.b.c", ending="PNG", kind="jpeg"),
        image("bom", ending="webp", kind="webp"),
        image("utf16", ending="Gif", kind="gif"),
        image("nobody"),
    ]


def test_mixed_invalid_files_are_rejected_then_load_after_correction(users, tables):
    users.serve(2)
    zoo = [*(upload for upload, _ in BAD), *odd_but_good(), *(upload for user in GOOD for upload in pair(user))]
    assert len(users.put_all(zoo)) == len(zoo)
    tables.over()
    expected = tables.judge()
    assert set(GOOD) < set(expected)
    sure = {upload.name: code for upload, code in BAD if code}
    assert {name: code for name, code in first_codes(users).items() if name in sure} == sure
    for row in users.rejects():
        assert len(row["reason"].splitlines()) == 1, dict(row)
        assert row["value"].isprintable(), dict(row)
        assert len(row["value"]) <= 200, dict(row)

    fixed = [fix(upload) for upload, _ in BAD]
    assert len(users.put_all(fixed)) == len(fixed)
    tables.over()
    assert set(tables.judge()) >= set(expected) - {"same", "s1"}
    assert not users.rejects()


def first_codes(users):
    codes = {}
    for row in users.rejects():
        codes.setdefault(row["key"].removeprefix(users.system.prefix), row["code"])
    return codes


def fix(upload):
    """Return a valid file under the name of an invalid one."""
    stem, _, ending = upload.name.partition(".")
    body = one_row(stem).body
    rows = {stem: person(stem)}
    if ending == "png":
        return image(stem)
    if ending == "jsonl":
        return Upload(upload.name, frame_of(rows).write_ndjson().encode(), rows)
    if ending == "parquet":
        whole = io.BytesIO()
        frame_of(rows).write_parquet(whole)
        return Upload(upload.name, whole.getvalue(), rows)
    return Upload(upload.name, gzip.compress(body) if ending.endswith("gz") else body, rows)


def test_formula_cells_are_escaped_in_csv_output(users, tables):
    users.serve()
    cells = ["=1+1", "+1", "-1", "@A1", "'", '=HYPERLINK("x")']
    rows = {f"u{number}": (cell, "x", 0) for number, cell in enumerate(cells)}
    users.put(Upload("cells.jsonl", frame_of(rows).write_ndjson().encode(), rows))
    tables.over()
    tables.judge()
    shown = list(csv.DictReader(io.StringIO(users.output("csv").decode(), newline="")))
    assert [row["first_name"] for row in shown] == list(map(guarded, cells))


def test_gigabyte_line_is_rejected_in_bounded_memory(users, tables):
    (name,) = users.serve()
    users.put(*pair("1000"))
    until(lambda: not tables.unsettled(), 30, tables.unsettled)
    pid = users.system.stack.pid(name)
    reset_peak(pid)
    users.put(Upload("huge.csv", HEAD.encode() + b"x" * (1 << 30), rejected=frozenset({2})), one_row("1001"))
    until(lambda: "1001" in {row["user_id"] for row in users.table("user_id")}, 60, "the neighbour waits")
    until(lambda: not tables.unsettled(), 120, tables.unsettled)
    print(f"\npeak {peak(pid) / MIB:.0f} MiB")
    assert peak(pid) < 400 * MIB
    assert users.system.stack.pid(name) == pid
    tables.judge_facts()


def test_gzip_bomb_is_rejected(users, tables):
    (name,) = users.serve()
    pid = users.system.stack.pid(name)
    zeros = gzip.compress(b"\0" * (1 << 30), 1)
    users.put(Upload("bomb.csv.gz", zeros, rejected=frozenset({0})), *pair("1000"))
    until(lambda: not tables.differing() or users.rejects(), 120, tables.differing)
    until(lambda: len(users.table("1")) == 1, 30, "the neighbour waits")
    print(f"\npeak {peak(pid) / MIB:.0f} MiB, {[dict(row) for row in users.rejects()]}")
    assert peak(pid) < 400 * MIB


def test_many_bad_rows_are_all_counted_and_partly_stored(users):
    users.serve(etl_rejects_kept=50)
    users.put(many_rows("many", {"good": ROW}, bad=[f"b{number},Ada,Lovelace,never" for number in range(5000)]))
    question = "SELECT rows, rejected FROM api.sources WHERE dataset = $1"
    found = until(lambda: users.system.database.rows(question, users.dataset), 60, "no source")[0]
    assert (found["rows"], found["rejected"]) == (1, 5000)
    assert len(users.rejects()) == 50


def test_undecodable_records_do_not_block_others(users, tables):
    users.serve()
    kafka, mine = users.system.kafka, users.system.prefix.encode()
    topics = (ETL_REQUESTED.name, OBJECTS_HASHED.name)
    bodies = (b"no json", b'{"a": 1}', b"", None, b"[" * 100_000)
    kafka.send_all((topic, mine, body, ()) for topic in topics for body in bodies)
    users.put(*pair("1000"))
    until(lambda: not tables.differing(), 60, tables.differing)
    for topic in topics:
        until(
            lambda topic=topic: len(dead_letters(users, topic, mine)) == len(bodies),
            30,
            lambda topic=topic: [
                (one.header("dlq_code"), (one.value or b"")[:9]) for one in dead_letters(users, topic, mine)
            ],
        )


def test_load_request_for_unknown_dataset_is_dead_lettered(users):
    users.serve()
    expected = json.dumps({"load_id": users.system.prefix, "dataset": "nobodys"}).encode()
    users.system.kafka.send(ETL_REQUESTED.name, expected, mine := users.system.prefix.encode())
    (dead_letter,) = until(lambda: dead_letters(users, ETL_REQUESTED.name, mine), 30, "no letter")
    assert users.dataset in dead_letter.header("dlq_reason")


def dead_letters(users, topic, key):
    return [one for one in users.system.kafka.read(f"{topic}.etl.dlq") if one.key == key]
