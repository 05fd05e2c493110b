"""Files under the extension of another format: loaded, or rejected with their actual type."""

import gzip
import io
import json
import zipfile
from functools import partial

import polars as pl
import pytest

from services.etl.adapters.small_files import is_small, read_small_file
from services.etl.core.datasets import Datasets
from services.etl.core.streaming import RowStream

compressed = partial(gzip.compress, mtime=0)
USERS = Datasets.parse(
    """
    [users]
    bucket = "src-data"
    key = "user_id"
    [users.columns]
    first_name = { type = "text", required = true }
    last_name = { type = "text", required = true }
    birthts = { type = "milliseconds", required = true }
    """
).by_name["users"]
LOOSE = USERS.model_copy(update={"extra_columns": "ignore"})
ADA = ("1", "Ada", "Byron", "473385600000")
HEAD = "user_id,first_name,last_name,birthts\n"
ROW = "1,Ada,Byron,473385600000\n"
PLAIN = HEAD + ROW


def read(body, key="1.csv", dataset=USERS):
    """Read a file whole and as a stream; assert that both agree."""
    body = body.encode() if isinstance(body, str) else body
    rows = read_small_file(body, key, dataset, line_bytes=1 << 20)
    for size in (1, 7, len(body) or 1):
        stream = RowStream(key, dataset, line_bytes=1 << 20, block_bytes=20)
        batches = [batch for at in range(0, len(body), size) for batch in stream.feed(body[at : at + size])]
        batches += stream.end()
        rejects = [one for batch in batches for one in batch.rejects]
        assert rejects == list(rows.rejects)
        if not any(one.line == 0 for one in rejects):
            found = [tuple(row) for batch in batches for _, *row in batch.frame.iter_rows()]
            assert [tuple((cell or "").strip() for cell in row) for row in found] == stripped(rows)
    return rows


def stripped(rows):
    return [tuple((cell or "").strip() for cell in row) for row in rows.values]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "tab"])
@pytest.mark.parametrize("begin", ["", "\n\n", "\ufeff"])
def test_delimiter_of_header_splits_rows(delimiter, ending, begin):
    rows = read(begin + PLAIN.replace(",", delimiter), f"x.{ending}")
    assert stripped(rows) == [ADA]
    assert not rows.rejects


def test_cell_may_contain_default_delimiter():
    rows = read('user_id;first_name;last_name;birthts\n1;"Ada; or A";Byron, Lady;473385600000\n')
    assert stripped(rows) == [("1", "Ada; or A", "Byron, Lady", "473385600000")]


def test_delimiter_is_detected_without_key_column():
    rows = read("first_name;last_name;birthts\nAda;Byron;473385600000\n", "1.csv")
    assert stripped(rows) == [ADA]


def test_unknown_header_is_rejected_for_missing_columns():
    (reject,) = read("Vorname;Nachname\na;b\n").rejects
    assert (reject.code, reject.column) == ("MISSING_COLUMN", "first_name")
    (reject,) = read("First-Name;last_name;birthts\na;b;1\n").rejects
    assert "there is First-Name: rename it" in reject.reason


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^", "~"])
@pytest.mark.parametrize("line", ["sep={}", "SEP={}", '"sep={}"', "sep={}{}{}", "\ufeffsep={}"])
def test_excel_sep_line_sets_delimiter(delimiter, line):
    rows = read(line.replace("{}", delimiter) + "\n" + PLAIN.replace(",", delimiter))
    assert stripped(rows) == [ADA]
    assert list(rows.lines) == [3]
    assert not rows.rejects


def test_sep_text_in_cell_is_data():
    rows = read(HEAD + "1,sep=;,Byron,473385600000\n")
    assert stripped(rows)[0][1] == "sep=;"


@pytest.mark.parametrize(
    "body",
    [
        "user_id,first_name,last_name,birthts,\n1,Ada,Byron,473385600000,\n",
        "user_id,first_name,last_name,birthts,,,\n1,Ada,Byron,473385600000,,,\n",
        "user_id,first_name,last_name,birthts,\n1,Ada,Byron,473385600000\n",
        "user_id,first_name,last_name,birthts\n1,Ada,Byron,473385600000, , ,\n",
        "user_id;first_name;last_name;birthts;\n1;Ada;Byron;473385600000;\n",
        'user_id,first_name,last_name,birthts,\n"1","Ada","Byron","473385600000",""\n',
    ],
)
def test_trailing_separators_are_ignored(body):
    rows = read(body)
    assert stripped(rows) == [ADA]
    assert not rows.rejects


@pytest.mark.parametrize("blank", [",,", ",,,,,", " , , ", ","])
def test_line_of_separators_is_skipped(blank):
    rows = read(f"{blank}\nfirst_name,last_name,birthts\nAda,Byron,473385600000\n{blank}\n{blank}\n", "1.csv")
    assert stripped(rows) == [ADA]
    assert list(rows.lines) == [3]
    assert not rows.rejects
    rows = read(f"{HEAD}{ROW}{blank}\n2,Bob,Byron,1\n" + "3,C,D,1\n" * 50 + f"{blank}\n")
    assert len(rows.values) == 52
    assert not rows.rejects


def test_value_below_unnamed_column_is_rejected():
    rows = read("user_id,first_name,last_name,birthts,\n1,Ada,Byron,473385600000,lost\n" + ROW)
    assert [(one.line, one.code) for one in rows.rejects] == [(2, "RAGGED")]
    assert stripped(rows) == [ADA]
    (reject,) = read("user_id,first_name,,last_name,birthts\n1,Ada,x,Byron,1\n").rejects
    assert "a column has no name" in reject.reason


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('="00123"', "00123"),
        ('"=""00123"""', "00123"),
        (' ="00123" ', "00123"),
        ('="say ""hi"""', 'say "hi"'),
        ('=""', ""),
        ("=1+1", "=1+1"),
        ('="1"&"2"', '="1"&"2"'),
        ('="open', '="open'),
    ],
)
def test_text_formula_is_unwrapped(cell, value):
    rows = read(f"{HEAD}{cell},Ada,Byron,473385600000\n2,{cell},Byron,473385600000\n")
    assert [row[:2] for row in stripped(rows)] == [(value, "Ada"), ("2", value)]
    assert not rows.rejects


def test_header_may_be_text_formulas():
    rows = read('="user_id",="first_name",="last_name",="birthts"\n="1",="Ada",="Byron",="473385600000"\n')
    assert stripped(rows) == [ADA]


def test_formula_in_json_stays_text():
    rows = read(json.dumps({"user_id": '="1"', "first_name": "a", "last_name": "b", "birthts": 1}), "x.jsonl")
    assert rows.values[0][0] == '="1"'


MARK = "\ufeff".encode()


@pytest.mark.parametrize(
    "body",
    [
        MARK + MARK + PLAIN.encode(),
        MARK * 5 + PLAIN.encode(),
        ("\ufeff\ufeff" + PLAIN).encode("utf-16"),
        PLAIN.encode("utf-16"),
        compressed(PLAIN.encode()),
        compressed(MARK + MARK + PLAIN.encode("utf-8")),
        compressed(PLAIN.encode("utf-16")),
    ],
)
def test_byte_order_marks_and_gzip_are_detected_by_content(body):
    rows = read(body)
    assert stripped(rows) == [ADA]
    assert not rows.rejects


def zipped(*names):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 50)
    return body.getvalue()


def parquet():
    body = io.BytesIO()
    pl.DataFrame({"user_id": ["1"]}).write_parquet(body)
    return body.getvalue()


XLSX = zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "xl/worksheets/sheet1.xml")
TAR = b"1000.csv".ljust(257, b"\0") + b"ustar\0" + bytes(249)
OTHERS = [
    ("<!DOCTYPE html>\n<html><body>Please log in</body></html>", "an HTML page"),
    ("\n\n  <html lang='en'>", "an HTML page"),
    ("\ufeff<HTML>", "an HTML page"),
    ("<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", "an XML document"),
    ("<Error><Code>AccessDenied</Code></Error>", "an XML document"),
    ('{"user_id": "1"}\n', "is JSON; write one object a line and end its name in .jsonl"),
    ('[{"user_id": "1"}]\n', "is JSON"),
    ("[\n  {\n", "is JSON"),
    ("{\n", "is JSON"),
    ("{\\rtf1\\ansi", "rich text"),
    ("%PDF-1.7\n%âãÏÓ\n", "a PDF document"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    (zipped("1000.csv"), "a zip archive"),
    (zipped(), "a zip archive"),
    (XLSX, "an Excel workbook (.xlsx); open it and save it as CSV UTF-8"),
    (zipped("[Content_Types].xml", "word/document.xml"), "a Word document"),
    (zipped("mimetypeapplication/vnd.oasis.opendocument.spreadsheet"), "an OpenDocument spreadsheet"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "an old or encrypted Office file"),
    (TAR, "a tar archive"),
    (b"(\xb5/\xfd\x04\0", "compressed with zstd"),
    (b"BZh91AY&SY\0\0", "compressed with bzip2"),
    (b"\xfd7zXZ\0\0\x04", "compressed with xz"),
    (b"7z\xbc\xaf\x27\x1c\0\x04", "a 7-Zip archive"),
    (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
    (parquet(), "is Parquet; end its name in .parquet"),
    (b"ARROW1\0\0" + bytes(20), "an Arrow or Feather file"),
    (b"SQLite format 3\0" + bytes(20), "an SQLite database"),
    (b"Obj\x01\x04", "an Avro file"),
    (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ", "what macOS keeps beside a file"),
    (b"\0\0\0\x01Bud1\0\0", "a .DS_Store file"),
    (b"\x89PNG\r\n\x1a\n", "an image"),
    (b"\xff\xd8\xff\xe0", "an image"),
    (bytes(5000), "nothing but NUL bytes"),
    ("id\n".encode("utf-32"), "is UTF-32"),
    (compressed(compressed(PLAIN.encode())), "compressed twice"),
]


@pytest.mark.parametrize(("body", "said"), OTHERS)
@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("dataset", [USERS, LOOSE])
def test_other_format_is_rejected_with_its_type(body, said, ending, dataset):
    (reject,) = read(body, f"._1.{ending}", dataset).rejects
    assert (reject.line, reject.code) == (0, "OTHER_FORMAT")
    assert said in reject.reason
    assert "; " in reject.reason


@pytest.mark.parametrize(("body", "said"), [one for one in OTHERS if "JSON" not in one[1]])
def test_other_format_named_jsonl_is_rejected_with_its_type(body, said):
    (reject,) = read(body, "1.jsonl").rejects
    assert (reject.line, reject.code) == (0, "OTHER_FORMAT")
    assert said in reject.reason


@pytest.mark.parametrize(
    ("body", "said"),
    [('[{"user_id": "1"}]', "one JSON array"), ("[\n {}\n]", "one JSON array"), ("{\n}", "JSON that is indented")],
)
def test_json_not_one_object_per_line_is_rejected(body, said):
    (reject,) = read(body, "1.jsonl").rejects
    assert said in reject.reason


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (PLAIN.encode(), "is text, not Parquet; end its name as what it is"),
        (b"<html>", "an HTML page"),
        (XLSX, "an Excel workbook"),
        (compressed(parquet()), "compressed with gzip, not Parquet"),
        (b"", "is not Parquet, or is damaged"),
        (b"\x01\x02\x03", "is not Parquet, or is damaged"),
    ],
)
def test_non_parquet_named_parquet_is_rejected_with_its_type(body, said):
    (reject,) = read_small_file(body, "1.parquet", USERS, line_bytes=1 << 20).rejects
    assert (reject.line, reject.code) == (0, "NOT_PARQUET")
    assert said in reject.reason


@pytest.mark.parametrize(
    ("body", "said"),
    [(PLAIN.encode(), "is not gzip"), (XLSX, "is an Excel workbook (.xlsx), not gzip"), (b"", "is not gzip")],
)
def test_non_gzip_named_gz_is_rejected_with_its_type(body, said):
    (reject,) = read(body, "1.csv.gz").rejects
    assert (reject.line, reject.code) == (0, "NOT_GZIP")
    assert said in reject.reason


@pytest.mark.parametrize(
    "name", ["orcid", "parent", "par1", "bzh", "obj", "fea1", "arrow1", "bm", "ii", "mm", "version", "gif87a", "l"]
)
def test_column_name_may_equal_signature_of_other_format(name):
    for header in (name, name.upper()):
        rows = read(f"{header},{HEAD}x,{ROW}", dataset=LOOSE)
        assert stripped(rows) == [ADA]


def test_header_in_angle_brackets_is_accepted():
    (reject,) = read("<DATE>,<TIME>,<OPEN>\n1,2,3\n").rejects
    assert reject.code == "MISSING_COLUMN"


def test_gzip_without_extension_has_same_limits():
    body = compressed(PLAIN.encode() + ROW.encode() * 100_000)
    assert not is_small(body, "1.csv", 1 << 20)
    assert is_small(compressed(PLAIN.encode()), "1.csv", 1 << 20)
    (reject,) = read_small_file(compressed(bytes(80 << 20)), "1.csv", USERS, line_bytes=1 << 20).rejects
    assert reject.code in {"GZIP_BOMB", "OTHER_FORMAT"}


def test_all_errors_of_a_json_object_are_reported():
    line = '{"user_id": "1", "first_name": ["Ada"], "last_name": {"a": 1}, "birthts": 1, "age": 3, "more": 4}\n'
    (reject,) = read(line, "1.jsonl").rejects
    assert [(one.code, one.column) for one in (reject, *reject.more)] == [
        ("EXTRA_COLUMN", "age"),
        ("EXTRA_COLUMN", "more"),
        ("NESTED", "first_name"),
        ("NESTED", "last_name"),
    ]
