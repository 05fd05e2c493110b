"""Round trips of output files, and input of other programs."""

import csv
import io
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.etl.adapters.spreadsheet_csv import write_spreadsheet_csv
from services.etl.core.cleaning import normalize_key
from services.etl.core.exporting import value_types
from services.etl.core.spreadsheet_escape import unescape
from shared.parquet import csv_to_parquet
from tests.support.etl_reading import LAB, understood, values
from tests.support.uploads import guarded

WRITTEN_BY = Path(__file__).parent / "golden" / "written_by"
MOMENT = datetime(2024, 1, 2, 3, 4, 5, 123456, UTC)
ROWS = [
    ("a", 'Ünï, "q"\r\nline', 7, 1.5, date(2024, 2, 29), MOMENT, 473385600000, True),
    ("b", "=1+1", -12, 1e300, date(1900, 1, 1), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), -86400000, False),
    ("c", None, None, None, None, None, None, None),
]
LONGEST = "x" * 70_000 + "\n" + "'" * 9
ODD = [
    "=1",
    "+1",
    "-1",
    "@a",
    "'=1",
    "''=1",
    "'",
    "'a",
    "'-",
    "\\N",
    "\\.",
    '"',
    '"a"',
    ",",
    "a\rb",
    "a\r\nb",
    "a\nb",
    "NaN",
]
TEXTS = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
).map(normalize_key)
KEYS = st.one_of(
    st.sampled_from([one for one in ODD if one.isprintable()]), st.from_regex(r"[-='@+ a-c]{1,5}", fullmatch=True)
)
ROW = st.tuples(
    KEYS.map(normalize_key).filter(bool),
    st.none() | TEXTS.map(lambda text: text or None),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.dates(),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.integers(-(10**9), 10**9).map(lambda days: days % 2_900_000 * 86_400_000 - 62_135_596_800_000),
    st.none() | st.booleans(),
)


def as_postgres(value):
    """Format a value as COPY (FORMAT csv) does."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime):
        return f"{value:%H:%M:%S}".join(
            [f"{value.date()} ", f".{value.microsecond:06}".rstrip("0").rstrip(".") + "+00"]
        )
    text = str(value)
    if text in {"", "\\."} or any(char in text for char in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def published(rows):
    """Write a table as Postgres exports it, with an image for each row."""
    names = list(value_types(LAB))
    lines = [",".join([*map(as_postgres, row), "src-data/x.png", "image/png", "1", "1", ""]) for row in rows]
    return "\n".join([",".join(names), *lines, ""]).encode()


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=8, unique_by=lambda row: row[0]))
@example([("k", LONGEST, 2**63 - 1, 5e-324, date.min, datetime.min.replace(tzinfo=UTC), -62_135_596_800_000, True)])
@example([("k", "'=", -(2**63), -0.0, date.max, datetime.max.replace(tzinfo=UTC), 253_402_214_400_000, False)])
def test_output_is_read_back_unchanged(rows):
    with tempfile.TemporaryDirectory() as folder:
        source, cells, table = (Path(folder, name) for name in ("values.csv", "output.csv", "output.parquet"))
        source.write_bytes(published(rows))
        write_spreadsheet_csv(source, cells, LAB)
        csv_to_parquet(source, table, value_types(LAB))
        assert understood(cells.read_bytes(), "output.csv", block_bytes=1 << 20) == (rows, [])
        assert understood(table.read_bytes(), "output.parquet") == (rows, [])
    over_http = [(guarded(row[0]), row[1] and guarded(row[1]), *row[2:]) for row in rows]
    assert understood(published(over_http), "data.csv", block_bytes=1 << 20) == (rows, [])


@pytest.mark.parametrize("text", [*ODD, "O'Brien", "a=1", "'=1+1", "''", "'''+"])
def test_unescape_removes_only_the_escape(text):
    assert unescape(guarded(text)) == text
    cell = as_postgres(guarded(text))
    assert values("label", f"sample_id,label\na,{cell}\nb,c\n".encode()) == [text, "c"]


def test_escape_is_undone_only_in_text_columns():
    (reject,) = understood(b"sample_id,qty\na,'-5\n")[1]
    assert reject.code == "NOT_A_NUMBER"
    assert values("label", b'{"sample_id":"a","label":"\'=1"}', "x.jsonl") == ["'=1"]
    assert values("sample_id", b"label\nx\n", "'=1.csv") == ["'=1"]


def test_added_columns_are_ignored_and_others_rejected():
    head = "sample_id,label,img_path,img_type,img_width,img_height,img_sha256,source,loaded_at"
    assert values("label", f"{head}\na,b,,,,,,,\n".encode()) == ["b"]
    assert values("label", b'{"sample_id":"a","label":"b","img_path":{}}', "x.jsonl") == ["b"]
    assert [one.code for one in understood(b"sample_id,image\na,b\n")[1]] == ["EXTRA_COLUMN"]


def test_postgres_copy_output_is_read():
    lines = [
        "a,2024-01-02 03:04:05+00,t",
        "b,2024-01-02 03:04:05.123456+00,f",
        "c,2024-01-02 03:04:05-08,t",
        "d,1890-01-01 00:19:32+00:19:32,f",
        "e,2024-01-02 03:04:05+0530,",
        'f,"",true',
    ]
    rows, rejects = understood("\n".join(["sample_id,at,ok", *lines]).encode())
    assert not rejects
    assert [(str(row[5])[:26], row[7]) for row in rows] == [
        ("2024-01-02 03:04:05+00:00", True),
        ("2024-01-02 03:04:05.123456", False),
        ("2024-01-02 11:04:05+00:00", True),
        ("1890-01-01 00:00:00+00:00", False),
        ("2024-01-01 21:34:05+00:00", None),
        ("None", True),
    ]


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("taken_on", "infinity", "is infinite; write a day of the years 1 to 9999, or leave it empty"),
        ("at", "-infinity", "is infinite; write a day of the years 1 to 9999, or leave it empty"),
        ("taken_on", "0044-03-15 BC", "is before Christ; a table holds the years 1 to 9999"),
        ("at", "0044-03-15 12:00:00+00 BC", "is before Christ; a table holds the years 1 to 9999"),
        ("taken_on", "10000-01-01", "is beyond the years 1 to 9999, which a table holds"),
        ("at", "294276-12-31 23:59:59+00", "is beyond the years 1 to 9999, which a table holds"),
        ("depth", "Infinity", "is infinite; leave it empty, or write a finite number"),
        ("at", r"\N", "is how COPY writes no value as text; write the file with (FORMAT csv), or leave it empty"),
    ],
)
def test_unsupported_postgres_values_are_rejected_with_reason(column, text, reason):
    (reject,) = understood(f"sample_id,{column}\na,{text}\n".encode())[1]
    assert reject.reason == f"{column} {reason}"


def test_copy_null_is_missing_in_tsv_and_text_in_csv():
    assert understood(b"sample_id\tlabel\tqty\na\t\\N\t\\N\n", "x.tsv") == ([("a", *[None] * 7)], [])
    assert values("label", b"sample_id,label\na,\\N\n") == ["\\N"]


@pytest.mark.parametrize(
    "name",
    ["pandas.csv", "pandas.jsonl", "duckdb.csv"]
    + [f"{one}.parquet" for one in ("pandas", "duckdb", "spark", "impala", "units", "dictionaries")],
)
def test_output_of_other_programs_is_read(name):
    rows, rejects = understood((WRITTEN_BY / name).read_bytes(), name)
    assert not rejects
    in_milliseconds = [(*row[:5], row[5] and row[5].replace(microsecond=123000), *row[6:]) for row in ROWS[:1]]
    assert rows == ([*in_milliseconds, *ROWS[1:]] if name == "dictionaries.parquet" else ROWS)


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_out_of_range_parquet_dates_reject_only_their_rows(unit):
    ticks = {"ms": 1000, "us": 1_000_000}[unit]
    seconds = [0, -62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800]
    at = pl.Series([second * ticks for second in seconds]).cast(pl.Datetime(unit, "UTC"))
    days = pl.Series([0, -719_162, -719_163, 2_932_896, 2_932_897]).cast(pl.Date)
    for name, column in (("at", at), ("taken_on", days)):
        body = io.BytesIO()
        pl.DataFrame({"sample_id": list("abcde"), name: column}).write_parquet(body)
        rows, rejects = understood(body.getvalue(), "x.parquet")
        assert [row[0] for row in rows] == ["a", "b", "d"]
        assert [(one.line, one.reason) for one in rejects] == [
            (line, f"{name} is beyond the years 1 to 9999, which a table holds") for line in (3, 5)
        ]


def test_polars_output_is_read():
    frame = pl.DataFrame(ROWS, schema=list(LAB.fields), orient="row")
    assert understood(frame.write_csv().encode()) == (ROWS, [])
    missing = frame.with_columns(pl.col("depth").fill_null(float("nan")), pl.col("qty").cast(pl.Float64))
    assert understood(missing.write_csv().encode()) == (ROWS, [])
    assert understood(frame.write_ndjson().encode(), "x.jsonl") == (ROWS, [])


def test_excel_utf8_output_is_read():
    body = b'\xef\xbb\xbfsample_id,label,qty,ms,ok\r\na,"x\ny",7,4.733856E+11,TRUE\r\nb,,-12,,FALSE\r\n'
    assert [(row[1], row[2], row[6], row[7]) for row in understood(body)[0]] == [
        ("x\ny", 7, 473385600000, True),
        (None, -12, None, False),
    ]


def test_int96_extremes_are_exact():
    body = (WRITTEN_BY / "int96_ends.parquet").read_bytes()
    assert values("at", body, "x.parquet") == [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]


@pytest.mark.parametrize(
    ("column", "code", "reason"),
    [
        ("took", "DURATION", "durations; write them as numbers, such as seconds"),
        ("at_time", "TIME_OF_DAY", "times of day; write whole moments, or declare it as text"),
        ("many", "NESTED", "lists or objects; write one value a row"),
        ("pairs", "NESTED", "lists or objects; write one value a row"),
        ("wide", "TOO_PRECISE", "decimals of more than 38 figures; write them with fewer, or as text"),
    ],
)
def test_unsupported_parquet_type_is_named(column, code, reason):
    odd = dataset_of(column, "timestamp")
    (reject,) = understood((WRITTEN_BY / "odd.parquet").read_bytes(), "x.parquet", odd)[1]
    assert (reject.line, reject.code, reject.reason) == (0, code, f"column {column} holds {reason}")


def dataset_of(column, kind):
    only = {column: LAB.columns["at"].model_copy(update={"type": kind})}
    return LAB.model_copy(update={"columns": only, "extra_columns": "ignore"})


def test_unusual_text_and_number_types_are_read():
    body = (WRITTEN_BY / "odd.parquet").read_bytes()
    assert values("at_time", body, "x.parquet", dataset_of("at_time", "text")) == ["12:30:00"]
    assert values("nothing", body, "x.parquet", dataset_of("nothing", "integer")) == [None]
    (reject,) = understood(body, "x.parquet", dataset_of("large", "integer"))[1]
    assert (reject.line, reject.code, reject.value) == (1, "OUT_OF_RANGE", "18446744073709551615")


def test_non_utf8_bytes_reject_only_their_row():
    body = io.BytesIO()
    pl.DataFrame({"sample_id": [b"a", b"b", b"c"], "label": [b"x", b"\xff", None]}).write_parquet(body)
    rows, rejects = understood(body.getvalue(), "x.parquet")
    assert [row[:2] for row in rows] == [("a", "x"), ("c", None)]
    assert [(one.line, one.code, one.column) for one in rejects] == [(2, "NOT_UTF8", "label")]


def test_csv_module_reads_output_cells_as_written():
    cells = list(csv.reader(io.StringIO(published(ROWS).decode(), newline="")))
    assert [row[0] for row in cells[1:]] == ["a", "b", "c"]
