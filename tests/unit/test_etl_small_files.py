"""Parsing of small files, rule by rule."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.etl.adapters.small_files import read_small_file
from services.etl.core.datasets import Column, Dataset, Datasets

SEED = """
[users]
bucket = "src-data"
key = "user_id"
images = ["png"]
[users.columns]
first_name = { type = "text", required = true }
last_name = { type = "text", required = true }
birthts = { type = "milliseconds", required = true }
"""
USERS = Datasets.parse(SEED).by_name["users"]
LOOSE = USERS.model_copy(update={"extra_columns": "ignore"})
NOTED = Dataset(
    name="noted",
    bucket="b",
    key="id",
    columns={"name": Column(type="text", required=True), "note": Column(type="text")},
)
HEAD = b"user_id,first_name,last_name,birthts\n"
ANNA = b"1,Anna,Smith,5\n"
BOB = b"3,Bob,Jones,7\n"
GOOD = [("1", "Anna", "Smith", "5"), ("3", "Bob", "Jones", "7")]


def read(body, key="1000.csv", dataset=USERS, line_bytes=1 << 20):
    return read_small_file(body, key, dataset, line_bytes=line_bytes)


def stripped(rows):
    return [tuple(value and value.strip() for value in row) for row in rows.values]


SEED_ROW = b"first_name, last_name, birthts\nAnna, Smith, 946684800000\n"
SEED_TEXT = SEED_ROW.decode()


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("1000.csv", SEED_ROW),
        ("a/b/1000.CSV", SEED_ROW),
        ("1000.csv", SEED_ROW.removesuffix(b"\n")),
        ("1000.csv", SEED_ROW.replace(b"\n", b"\r\n")),
        ("1000.csv", SEED_ROW.replace(b"\n", b"\r")),
        ("1000.csv", b"\n\r\n  \n" + SEED_ROW + b"\n \t \n"),
        ("1000.csv", SEED_TEXT.encode("utf-8-sig")),
        ("1000.csv", SEED_TEXT.encode("utf-16")),
        ("1000.csv", b"\xfe\xff" + SEED_TEXT.encode("utf-16-be")),
        ("1000.csv", b'"first_name" , "last_name", birthts\n "Anna" ,"Smith", "946684800000" \n'),
        ("1000.csv", b"birthts,first_name ,\tlast_name\n946684800000,Anna,Smith\n"),
        ("1000.csv.gz", gzip.compress(SEED_ROW, mtime=0)),
        ("1000.csv.GZ", gzip.compress(SEED_ROW[:9], mtime=0) + gzip.compress(SEED_ROW[9:], mtime=0) + b"\0" * 9),
        ("1000.tsv", SEED_ROW.replace(b", ", b"\t")),
        ("1000.tab", SEED_ROW.replace(b", ", b"\t ")),
        ("1000.jsonl", b'{"birthts": 946684800000, "first_name": "Anna", "last_name": " Smith"}\n\n'),
        ("1000.ndjson.gz", gzip.compress(b'{"birthts":946684800000,"first_name":"Anna","last_name":"Smith"}', mtime=0)),
        ("1000.csv", b"user_id,first_name,last_name,birthts\n 1000 ,Anna,Smith,946684800000"),
    ],
)
def test_row_is_equal_in_every_format_encoding_and_line_end(key, body):
    rows = read(body, key)
    assert stripped(rows) == [("1000", "Anna", "Smith", "946684800000")]
    assert not rows.rejects


@pytest.mark.parametrize(
    ("key", "item"), [("a/1000.csv", "1000"), ("a.b.csv", "a.b"), ("a.b.csv.gz", "a.b"), ("é.jsonl", "é")]
)
def test_file_without_key_column_uses_its_name_as_key(key, item):
    body = (
        b'{"first_name":"a","last_name":"b","birthts":1}' if "json" in key else b"first_name,last_name,birthts\na,b,1"
    )
    (row,) = read(gzip.compress(body, mtime=0) if key.endswith("gz") else body, key).values
    assert row[0] == item


@pytest.mark.parametrize(
    ("code", "reason", "body"),
    [
        ("EMPTY", "the file is empty", b""),
        ("EMPTY", "the file is empty", b"\n \r\n"),
        ("EMPTY", "the file is empty", b"\xef\xbb\xbf"),
        ("MISSING_COLUMN", "no column birthts", b"first_name,last_name\na,b\n"),
        ("MISSING_COLUMN", "there is First_Name: rename it", b"First_Name,last_name,birthts\na,b,1\n"),
        ("MISSING_COLUMN", "there is last name: rename it", b"first_name,last name,birthts\na,b,1\n"),
        ("EXTRA_COLUMN", "column age is unknown", b"first_name,last_name,birthts,age\na,b,1,2\n"),
        ("EXTRA_COLUMN", "rename it to user_id", b"User-ID,first_name,last_name,birthts\n1,a,b,1\n"),
        ("EXTRA_COLUMN", "a column has no name", b"first_name,,last_name,birthts\na,,b,1\n"),
        ("DUPLICATE_COLUMN", "first_name is there 2 times", b"first_name,last_name,birthts, first_name\na,b,1,c\n"),
        ("NO_KEY", "no column user_id; add", b"first_name,last_name,birthts\na,b,1\nc,d,2\n"),
        ("NO_KEY", "no column user_id; add", b"first_name,last_name,birthts\na,b,1\nc\n"),
        ("NUL", "UTF-16 with a byte order mark", "first_name,last_name,birthts\na,b,1\n".encode("utf-16-le")),
        ("NOT_UTF8", "the header cannot be read", b"first_name,\xff,birthts\na,b,1\n"),
        ("UNCLOSED_QUOTE", "the header cannot be read", b'first_name,"last_name,birthts\na,b,1\n'),
        ("TOO_MANY_COLUMNS", "2,001 columns", b"x" + b"," * 2000 + b"\n"),
    ],
)
def test_rejected_file_has_reason_and_fix(code, reason, body):
    rows = read(body)
    (reject,) = rows.rejects
    assert (reject.line, reject.code) == (0, code)
    assert reason in reject.reason
    assert not rows.values


@pytest.mark.parametrize(
    "body", [b"", b"no gzip", gzip.compress(SEED_ROW, mtime=0)[:-1], gzip.compress(SEED_ROW, mtime=0) + b"x"]
)
def test_damaged_gzip_is_rejected_as_a_whole(body):
    rows = read(body, "1000.csv.gz")
    assert [(reject.line, reject.code) for reject in rows.rejects] == [(0, "NOT_GZIP")]
    assert not rows.values


@pytest.mark.parametrize("body", [b"", SEED_ROW])
def test_non_parquet_is_rejected_as_a_whole(body):
    rows = read(body, "1000.parquet")
    assert [(reject.line, reject.code) for reject in rows.rejects] == [(0, "NOT_PARQUET")]


def test_header_only_file_has_no_rows_and_no_rejects():
    assert read(HEAD) == read(HEAD.strip())
    assert not read(HEAD).rejects
    assert not read(HEAD).values


@pytest.mark.parametrize(
    ("code", "reason", "bad"),
    [
        ("RAGGED", "3 of 4 cells", b"2,a,b\n"),
        ("RAGGED", "5 of 4 cells", b"2,a,b,1,2\n"),
        ("RAGGED", "1 of 4 cells", b"x\n"),
        ("NOT_UTF8", "bytes that are not UTF-8", b"2,a\xe9,b,1\n"),
        ("NOT_UTF8", "bytes that are not UTF-8", b"2,\xed\xa0\x80,b,1\n"),
        ("LINE_TOO_LONG", "more than 100 bytes", b"2," + b"a" * 100 + b",b,1\n"),
        ("LINE_TOO_LONG", "more than 100 bytes", b"2," + "é".encode() * 50 + b",b,1\n"),
        ("UNCLOSED_QUOTE", "does not close", b'2,"a,b,1\n'),
        ("UNCLOSED_QUOTE", "does not close", b'2,a,b,"\n'),
        ("BAD_QUOTES", "something follows a closing quote", b'2,"a"b,c,1\n'),
    ],
)
def test_bad_row_does_not_affect_neighbors(code, reason, bad):
    rows = read(HEAD + ANNA + bad + BOB, line_bytes=100)
    (reject,) = rows.rejects
    assert (reject.line, reject.code) == (3, code)
    assert reason in reject.reason
    assert list(rows.values) == GOOD
    assert list(rows.lines) == [2, 4]


def test_unclosed_quote_does_not_swallow_quoted_neighbor():
    rows = read(HEAD + b'1,"Anna,Smith,1\n2,"Bob","Jones",2\n3,"C\nD",E,3\n')
    assert list(rows.values) == [("2", "Bob", "Jones", "2"), ("3", "C\nD", "E", "3")]
    assert [(reject.line, reject.code) for reject in rows.rejects] == [(2, "UNCLOSED_QUOTE")]


def test_stray_quote_rejects_one_row_at_any_distance():
    rows = read(HEAD + b'1,"Anna,Smith,5\n' + BOB * 1000 + b'4,"Zoe","Z",9\n')
    assert [(reject.line, reject.code) for reject in rows.rejects] == [(2, "UNCLOSED_QUOTE")]
    assert len(rows.values) == 1001
    assert rows.lines[-1] == 1003


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (b'"a,b"', "a,b"),
        (b'"a ""b"""', 'a "b"'),
        (b'"a\n\nb"', "a\n\nb"),
        (b'"a\r\nb"', "a\r\nb"),
        (b'"a\rb"', "a\rb"),
        (b'a "b" c', 'a "b" c'),
        (b"O'Brien", "O'Brien"),
        (b'""', ""),
        (b"=1+1", "=1+1"),
    ],
)
def test_cell_value_is_what_a_spreadsheet_shows(cell, value):
    rows = read(HEAD + b"1," + cell + b",Smith,5\n" + BOB)
    assert list(rows.values) == [("1", value, "Smith", "5"), GOOD[1]]
    assert list(rows.lines) == [2, 3 + len(value.splitlines()[1:])]


def test_multiline_row_above_line_limit_is_rejected():
    rows = read(HEAD + b'1,"a\n' + b"b" * 90 + b'\nc",d,1\n' + BOB, line_bytes=100)
    assert rows.rejects[0] == read(HEAD + b'1,"a\n', line_bytes=100).rejects[0]
    assert list(rows.values) == [GOOD[1]]


def test_dataset_may_ignore_extra_columns():
    rows = read(b"age,user_id,,,first_name,last_name,birthts,age\n9,1,,,Anna,Smith,5,9\n", dataset=LOOSE)
    assert list(rows.values) == GOOD[:1]
    assert not read(b'{"user_id":1,"age":{}}', "x.jsonl", dataset=LOOSE).rejects


@pytest.mark.parametrize(("key", "body"), [("x.csv", b"id,name\n1,a\n"), ("x.jsonl", b'{"id":1,"name":"a"}')])
def test_optional_column_may_be_absent(key, body):
    assert list(read(body, key, NOTED).values) == [("1", "a", None)]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("NOT_JSON", b"{"),
        ("NOT_JSON", b'{"user_id": 2,}'),
        ("NOT_JSON", b"[1]"),
        ("NOT_JSON", b"2"),
        ("NOT_JSON", b"[" * 100_000),
        ("NOT_JSON", b'{"first_name": "a\tb"}'),
        ("NESTED", b'{"user_id": 2, "first_name": {"a": 1}}'),
        ("NESTED", b'{"user_id": 2, "first_name": []}'),
        ("EXTRA_COLUMN", b'{"user_id": 2, "age": 1}'),
        ("DUPLICATE_COLUMN", b'{"user_id": 2, "user_id": 3}'),
        ("NOT_UTF8", b'{"user_id": "\\ud800"}'),
        ("NOT_UTF8", b'{"user_id": "\xff"}'),
        ("LINE_TOO_LONG", b" " * 200_000 + b"{}"),
    ],
)
def test_bad_json_line_does_not_affect_neighbors(code, line):
    good = b'{"user_id": 1, "first_name": "Anna", "last_name": "Smith", "birthts": "5"}\n'
    rows = read(good + line + b"\n" + good, "x.jsonl", line_bytes=150_000)
    assert [(reject.line, reject.code) for reject in rows.rejects] == [(2, code)]
    assert list(rows.values) == GOOD[:1] * 2
    assert list(rows.lines) == [1, 3]


def test_json_lines_without_key_must_be_one_row():
    line = b'{"first_name": "Anna", "last_name": "Smith", "birthts": 946684800000}\n'
    (reject,) = read(line * 2, "1000.jsonl").rejects
    assert (reject.line, reject.code) == (0, "NO_KEY")
    assert [row[0] for row in read(line, "1000.jsonl").values] == ["1000"]


def test_rejected_value_is_short_and_printable():
    (reject,) = read(HEAD + "2,\x1b[31m\u202e".encode() + b"x" * 500 + b"\n").rejects
    assert len(reject.value) == 200
    assert reject.value.startswith("2,\\x1b[31m\\u202exxx")
    assert reject.value.endswith("…")


@given(st.binary(max_size=200), st.sampled_from(("csv", "tsv", "jsonl", "csv.gz", "jsonl.gz")))
def test_any_bytes_give_rows_or_rejects_without_raising(body, ending):
    rows = read(body, f"x.{ending}", line_bytes=50)
    assert rows.rejects or rows.values
    assert all(len(row) == len(USERS.fields) for row in rows.values)
