"""Keys, blanks, numbers and line ends are normalized alike in every format and file name."""

import io
import unicodedata
from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from services.etl.adapters.small_files import read_small_file
from services.etl.core.cleaning import TOO_LARGE, normalize_key, parse_whole
from services.etl.core.datasets import item_of
from tests.support.etl_reading import LAB, understood, values

BLANKS = ["\ufeff", "\xa0", "\t", "\u200b", "\u2060", "\u3000", "\u2009", " ", "\ufeff \u200b\xa0"]
NFD = unicodedata.normalize("NFD", "José")
NFC = "José"


def parquet(**columns):
    body = io.BytesIO()
    pl.DataFrame(columns).write_parquet(body)
    return body.getvalue()


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_blanks_around_quotes_and_names_are_stripped(blank):
    cells = [f'{blank}"a"{blank}', f'{blank}"x ""y"", z"{blank}']
    names = [f'{blank}"sample_id"', f"{blank}label{blank}"]
    body = f"{','.join(names)}\n{','.join(cells)}\n{','.join(cells[::-1])}\n".encode()
    assert understood(body)[0] == [("a", 'x "y", z', *[None] * 6), ('x "y", z', "a", *[None] * 6)]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_blanks_around_values_are_stripped_in_every_format(blank):
    line = f'{{"{blank}sample_id": "{blank}a", "label": "b{blank}"}}\n'.replace("\t", "\\t")
    files = {
        "x.csv": f"sample_id,label\n{blank}a{blank},{blank}b{blank}\n",
        "x.tsv": f"sample_id\tlabel\n{blank}a{blank}\t{blank}b{blank}\n" if "\t" not in blank else "",
        "x.jsonl": line,
    }
    expected = [("a", "b", *[None] * 6)]
    assert all(understood(body.encode(), key) == (expected, []) for key, body in files.items() if body)
    assert (
        understood(parquet(**{f"{blank}sample_id": [f"{blank}a"], "label": [f"b{blank}"]}), "x.parquet")[0] == expected
    )


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_blank_lines_and_cells_are_empty(blank):
    assert understood(f"{blank}\nsample_id,label\n{blank}\na,{blank}\n".encode())[0] == [("a", *[None] * 7)]
    assert [reject.code for reject in understood(f'sample_id,label\n"{blank}",b\n'.encode())[1]] == ["BLANK"]


def test_blanks_within_quoted_cells_stay():
    assert values("label", b'sample_id,label\na,"x,\t""y"", \xc2\xa0""z"""\n') == ['x,\t"y", \xa0"z"']
    assert values("label", b'sample_id,label\n\t"a" ,"x\n,\t""y"""\n') == ['x\n,\t"y"']


def test_joiners_and_direction_marks_stay():
    for key in ("\u0645\u06cc\u200c\u062e", "\u0915\u094d\u200d\u0937", "\u05d0\u200f", "\U0001f469\u200d\U0001f52c"):
        assert values("sample_id", f"sample_id\n{key}\n".encode()) == [key]
        assert item_of(f"{key}.png") == key


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("x.csv", f"sample_id,label\n{NFD},b\n".encode()),
        ("x.csv", f"sample_id,label\n\ufeff {NFD}\xa0,b\n".encode()),
        ("x.tsv", f"sample_id\tlabel\n{NFC}\tb\n".encode()),
        ("x.jsonl", f'{{"sample_id": "{NFD} ", "label": "b"}}'.encode()),
        (f"{NFD}.csv", b"label\nb\n"),
        (f"{NFD}.csv.gz.csv", None),
        (f" {NFD}\xa0.jsonl", b'{"label": "b"}'),
    ],
)
def test_key_is_normalized_in_every_format(key, body):
    if body is None:
        assert item_of(key) == f"{NFC}.csv.gz"
    else:
        assert values("sample_id", body, key) == [NFC]
    assert normalize_key(f" {NFD}") == item_of(f"a/{NFD}.png") == item_of(f"{NFD}.csv.gz") == NFC


def test_two_spellings_of_parquet_key_are_equal():
    assert values("sample_id", parquet(sample_id=[NFD, NFC]), "x.parquet") == [NFC, NFC]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7.00", 7),
        ("7.", 7),
        ("+7", 7),
        ("1e3", 1000),
        ("4.733856E+11", 473385600000),
        ("70e-1", 7),
        (".0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("0e99", 0),
        ("9007199254740993.0", 2**53 + 1),
        ("9.007199254740993e15", 2**53 + 1),
        ("9223372036854775807.000", 2**63 - 1),
        ("-9223372036854775808.0", -(2**63)),
        ("NaN", None),
        ("-nan", None),
    ],
)
def test_integer_is_parsed_by_value(text, value):
    for key, body in {
        "x.csv": f"sample_id,qty\na,{text}\nb,5\n",
        "x.tsv": f"sample_id\tqty\na\t{text}\nb\t5\n",
        "x.jsonl": f'{{"sample_id":"a","qty":"{text}"}}\n{{"sample_id":"b","qty":5}}\n',
    }.items():
        assert values("qty", body.encode(), key) == [value, 5]
    if value in {None, 473385600000}:
        assert values("ms", f"sample_id,ms\na,{text}\n".encode()) == [value]


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("7.5", "NOT_WHOLE", "without a fraction"),
        ("1e-3", "NOT_WHOLE", "without a fraction"),
        ("1_000", "NOT_A_NUMBER", "is not a number"),
        ("1,000", "NOT_A_NUMBER", "is not a number"),
        ("1 000", "NOT_A_NUMBER", "is not a number"),
        ("\u0667", "NOT_A_NUMBER", "is not a number"),
        ("Infinity", "NOT_A_NUMBER", "is infinite"),
        ("9223372036854775808.0", "OUT_OF_RANGE", "no larger than a table holds"),
        ("1e999999999", "OUT_OF_RANGE", "no larger than a table holds"),
        ("1e99999999999999999", "OUT_OF_RANGE", "no larger than a table holds"),
        (r"\N", "COPY_NULL", "COPY"),
    ],
)
def test_non_integer_is_rejected_with_code(text, code, reason):
    _, (reject,) = understood(f'sample_id,qty\na,"{text}"\n'.encode())
    assert reject.code == code
    assert reason in reject.reason


@pytest.mark.parametrize("text", ["1_000", "0x7", "1d", "--1", "1e", "."])
def test_non_number_is_rejected_by_every_numeric_type(text):
    for name in ("qty", "depth", "ms"):
        assert [one.code for one in understood(f"sample_id,{name}\na,{text}\n".encode())[1]] == ["NOT_A_NUMBER"]


def test_long_numbers_are_exact_and_fast():
    assert parse_whole("0" * 100_000 + "7." + "0" * 100_000) == 7
    assert parse_whole("9" * 100_000) == TOO_LARGE
    assert parse_whole("-1e400") == -TOO_LARGE
    assert parse_whole("1e-999999999999999999") is None


@pytest.mark.parametrize(("text", "value"), [("1.0", True), ("0.00", False), ("+1", True), ("0e0", False), ("t", True)])
def test_numeric_boolean_is_parsed_by_value(text, value):
    assert values("ok", f"sample_id,ok\na,{text}\nb,no\nc,NaN\n".encode()) == [value, False, None]


def test_nan_is_missing_in_every_format():
    body = b"sample_id,depth\na,NaN\nb,-nan\nc,7.5\n"
    assert values("depth", body) == [None, None, 7.5]
    assert values("depth", b'{"sample_id":"a","depth":NaN}\n{"sample_id":"b","depth":1e3}\n', "x.jsonl") == [None, 1e3]
    for name in ("depth", "qty", "ms", "label", "ok"):
        column = pl.Series([float("nan"), 1.0 if name != "ms" else 473385600000.0])
        (first, second) = values(name, parquet(sample_id=["a", "b"], **{name: column}), "x.parquet")
        assert first is None
        assert second is not None
    (reject,) = understood(b'{"sample_id":"a","depth":-Infinity}\n', "x.jsonl")[1]
    assert (reject.code, reject.reason) == (
        "NOT_A_NUMBER",
        "depth is infinite; leave it empty, or write a finite number",
    )


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([1100.0, 2.5, 1e17]), ["1100", "2.5", "100000000000000000"]),
        (pl.Series([1100.0, 0.1, -0.0], dtype=pl.Float32), ["1100", "0.1", "0"]),
        (pl.Series([Decimal(1100), Decimal("2.50"), Decimal(100)], dtype=pl.Decimal(38, 10)), ["1100", "2.5", "100"]),
        (pl.Series([Decimal(1100), Decimal(7), Decimal(100)], dtype=pl.Decimal(10, 0)), ["1100", "7", "100"]),
        (pl.Series([1100, 0, 2**64 - 1], dtype=pl.UInt64), ["1100", "0", "18446744073709551615"]),
    ],
)
def test_numeric_parquet_key_is_integer_text(column, expected):
    assert values("sample_id", parquet(sample_id=column), "x.parquet") == expected


def test_numeric_json_key_is_integer_text_and_string_stays():
    lines = [b'{"sample_id": %s}' % one for one in (b"1100.0", b"1.1e3", b"2.50", b'"1100.0"', b"-0.0", b"1e99")]
    assert values("sample_id", b"\n".join(lines), "x.jsonl") == ["1100", "1100", "2.5", "1100.0", "0", "1e99"]
    assert values("sample_id", b"sample_id\n007\n1.10\n") == ["007", "1.10"]


def test_integral_decimals_and_floats_are_integers():
    decimals = pl.Series([Decimal(7), Decimal("-12.0")], dtype=pl.Decimal(38, 10))
    for column in (decimals, pl.Series([7.0, -12.0]), pl.Series([7.0, -12.0], dtype=pl.Float32)):
        assert values("qty", parquet(sample_id=["a", "b"], qty=column), "x.parquet") == [7, -12]
    assert values("qty", parquet(sample_id=["a"], qty=pl.Series([Decimal(2**53 + 1)])), "x.parquet") == [2**53 + 1]


@pytest.mark.parametrize("text", ["2024-02-29 00:00:00", "2024-02-29T00:00:00.000Z", "2024-02-29 00:00:00+00"])
def test_midnight_timestamp_is_accepted_as_date(text):
    assert values("taken_on", f"sample_id,taken_on\na,{text}\nb,2024-01-01\n".encode()) == [
        date(2024, 2, 29),
        date(2024, 1, 1),
    ]
    (reject,) = understood(f"sample_id,taken_on\na,{text.replace('00:00:', '00:01:')}\n".encode())[1]
    assert reject.reason == "taken_on has a time of day; write the day alone, such as 2024-02-29"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=ascii)
@pytest.mark.parametrize("inside", ["\n", "\r\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n", "\r\r"], ids=ascii)
def test_line_ends_within_quotes_stay(inside, end):
    body = end.join([b"sample_id,label,qty", f'a,"x{inside}y",1'.encode(), f'b,"{inside}z", 2'.encode(), b"c,d,3", b""])
    for block_bytes in (1, 1 << 20):
        rows, rejects = understood(body, block_bytes=block_bytes)
        assert not rejects
        assert [row[:3] for row in rows] == [("a", f"x{inside}y", 1), ("b", "z", 2), ("c", "d", 3)]


def test_unclosed_quote_rejects_one_row_with_cr_line_ends():
    for end in (b"\r\n", b"\r"):
        body = end.join([b"sample_id,label", b'a,"x', b"b,y", b'c,"z"', b""])
        rows, rejects = understood(body)
        assert [row[:2] for row in rows] == [("b", "y"), ("c", "z")]
        assert [(reject.line, reject.code) for reject in rejects] == [(2, "UNCLOSED_QUOTE")]


def test_line_length_excludes_line_end():
    wide = LAB.model_copy(update={"name": "wide"})
    for end in ("\n", "\r\n", "\r"):
        body = end.join(["sample_id,label", "a," + "x" * 60, "b," + "y" * 62, "c," + "z" * 61, ""]).encode()
        rows = read_small_file(body, "x.csv", wide, line_bytes=63)
        assert [row[0] for row in rows.values] == ["a", "c"]
        assert [(reject.line, reject.code) for reject in rows.rejects] == [(3, "LINE_TOO_LONG")]
