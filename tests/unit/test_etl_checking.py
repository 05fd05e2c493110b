"""Conversion of text to typed values or reject reasons, compared with a model of single values."""

import math
import re
import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.etl.core.checking import check, frame_of
from services.etl.core.datasets import Column, Dataset
from services.etl.core.values import LINE, MAX_WRONG_CELLS, SOURCE, ParsedRows, RejectedRow

TODAY = date(2026, 11, 21)
DAY = 86_400_000


def dataset(**columns):
    return Dataset(name="d", bucket="b", key="id", columns={name: Column(**one) for name, one in columns.items()})


def checked(one, *rows, today=TODAY):
    lines = range(2, len(rows) + 2)
    return check(frame_of([(7, ParsedRows(list(lines), rows))], one), one, today=today)


def value_of(text, **column):
    found = checked(dataset(value=column), ("1", text))
    if found.rejects:
        assert not found.good.height
        (reject,) = found.rejects
        assert (reject.line, reject.source, reject.column) == (2, 7, "value")
        assert reject.reason.startswith("value ")
        return reject.code
    return found.good["value"].item()


BIRTH = {"type": "milliseconds", "required": True, "min": date(1900, 1, 1), "max": "today"}
NEW_YEAR_2000 = 946_684_800_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("946684800000", NEW_YEAR_2000),
        (" 946684800000\u00a0", NEW_YEAR_2000),
        ("946684800000.0", NEW_YEAR_2000),
        ("+946684800000", NEW_YEAR_2000),
        ("0", 0),
        ("-86400000", -DAY),
        ("-2208988800000", -2_208_988_800_000),
        ("-2208988800001", "OUT_OF_RANGE"),
        ("1795305599999", 1_795_305_599_999),
        ("1795305600000", "OUT_OF_RANGE"),
        ("99999999999999999", "OUT_OF_RANGE"),
        ("9" * 30, "OUT_OF_RANGE"),
        ("9" * 5000, "OUT_OF_RANGE"),
        ("946684800", 946_684_800),
        ("-1", -1),
        ("1206000000", 1_206_000_000),
        ("-1006200000", -1_006_200_000),
        ("946684800000.5", "NOT_WHOLE"),
        ("9.466848e11", NEW_YEAR_2000),
        ("1e12", 1_000_000_000_000),
        ("2000-01-01", "NOT_A_NUMBER"),
        ("2000-02-31", "NOT_A_NUMBER"),
        ("946_684_800_000", "NOT_A_NUMBER"),
        ("٩٤٦", "NOT_A_NUMBER"),
        ("nan", "BLANK"),
        ("NULL", "NOT_A_NUMBER"),
        ("", "BLANK"),
        (" \t\u3000", "BLANK"),
        (None, "BLANK"),
        ("1\0", "NUL"),
    ],
)
def test_birth_is_utc_milliseconds_within_bounds(text, value):
    assert value_of(text, **BIRTH) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2000-01-01", "birth is a date; write it as UTC milliseconds, 946684800000"),
        ("soon", "birth is not a number; write UTC milliseconds, such as 951782400000"),
        ("1.5", "birth is not a whole number; write it without a fraction"),
        ("4102444800000", "birth is 2100-01-01; it may be from 1900-01-01 to 2026-11-21"),
        ("9" * 99, "birth is beyond the calendar; it may be from 1900-01-01 to 2026-11-21"),
        ("", "birth is blank; fill it in"),
    ],
)
def test_reason_names_problem_and_fix(text, reason):
    (reject,) = checked(dataset(birth=BIRTH), ("1", text)).rejects
    assert reject.reason == reason
    assert reject.value == (text if len(text) < 200 else reject.value)


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ({"type": "text"}, " a b ", "a b"),
        ({"type": "text"}, "  ", None),
        ({"type": "text"}, "\ufeffa", "a"),
        ({"type": "text"}, "a\0b", "NUL"),
        ({"type": "text", "min": 2, "max": 3}, "é", "OUT_OF_RANGE"),
        ({"type": "text", "min": 2, "max": 3}, "éèê", "éèê"),
        ({"type": "text", "min": 2, "max": 3}, "abcd", "OUT_OF_RANGE"),
        ({"type": "text", "required": True}, None, "BLANK"),
        ({"type": "integer"}, "-7", -7),
        ({"type": "integer"}, "007", 7),
        ({"type": "integer"}, "7.0", 7),
        ({"type": "integer"}, "7.5", "NOT_WHOLE"),
        ({"type": "integer"}, ".0", 0),
        ({"type": "integer"}, "0x7", "NOT_A_NUMBER"),
        ({"type": "integer"}, "9223372036854775807", 2**63 - 1),
        ({"type": "integer"}, "9223372036854775808", "OUT_OF_RANGE"),
        ({"type": "integer", "min": 1, "max": 5}, "5", 5),
        ({"type": "integer", "min": 1, "max": 5}, "0", "OUT_OF_RANGE"),
        ({"type": "number"}, "1e3", 1000.0),
        ({"type": "number"}, "-.5", -0.5),
        ({"type": "number"}, "1e400", "OUT_OF_RANGE"),
        ({"type": "number"}, "inf", "NOT_A_NUMBER"),
        ({"type": "number"}, "NaN", None),
        ({"type": "number"}, "1,5", "NOT_A_NUMBER"),
        ({"type": "number", "max": 1.5}, "1.6", "OUT_OF_RANGE"),
        ({"type": "boolean"}, "YES", True),
        ({"type": "boolean"}, "0", False),
        ({"type": "boolean"}, "on", "NOT_A_BOOLEAN"),
        ({"type": "date"}, "2000-02-29", date(2000, 2, 29)),
        ({"type": "date"}, "2000-02-31", "NOT_A_DATE"),
        ({"type": "date"}, "2001-02-29", "NOT_A_DATE"),
        ({"type": "date"}, "2000-2-9", "NOT_A_DATE"),
        ({"type": "date"}, "2000-W01-1", "NOT_A_DATE"),
        ({"type": "date"}, "0000-01-01", "NOT_A_DATE"),
        ({"type": "date", "max": "today"}, "2026-11-21", TODAY),
        ({"type": "date", "max": "today"}, "2026-11-22", "OUT_OF_RANGE"),
        ({"type": "timestamp"}, "2000-02-29T12:30:00.25+05:30", datetime(2000, 2, 29, 7, 0, 0, 250_000, UTC)),
        ({"type": "timestamp"}, "2000-02-29 12:30", datetime(2000, 2, 29, 12, 30, tzinfo=UTC)),
        ({"type": "timestamp"}, "2000-02-29", datetime(2000, 2, 29, tzinfo=UTC)),
        ({"type": "timestamp"}, "2000-02-31T12:30:00Z", "NOT_A_TIMESTAMP"),
        ({"type": "timestamp"}, "2000-02-29T24:00:00Z", "NOT_A_TIMESTAMP"),
        ({"type": "timestamp"}, "2000-02-29T12:30:60Z", "NOT_A_TIMESTAMP"),
        ({"type": "timestamp"}, "0001-01-01T00:00:00+01:00", "OUT_OF_RANGE"),
        ({"type": "timestamp", "max": "today"}, "2026-11-21T23:59:59.999999Z", datetime.combine(TODAY, time.max, UTC)),
        ({"type": "timestamp", "max": "today"}, "2026-11-22T00:00:00Z", "OUT_OF_RANGE"),
        ({"type": "timestamp", "max": "today"}, "2026-11-22T00:00:00+01:00", datetime(2026, 11, 21, 23, tzinfo=UTC)),
    ],
)
def test_value_is_converted_or_rejected_with_code(column, text, value):
    found = value_of(text, **column)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "BLANK"),
        (" ", "BLANK"),
        ("a\0", "NUL"),
        ("a\nb", "KEY_UNSAFE"),
        ("a\u202eb", "KEY_UNSAFE"),
        ("a\u2066b", "KEY_UNSAFE"),
        ("a\u200f(1)", None),
        ("\u200fa", None),
        ("\x85a\x9f", "KEY_UNSAFE"),
        ("é" * 513, "KEY_TOO_LONG"),
        ("é" * 512, None),
        ("a b/../c'\"", None),
        ("日本", None),
    ],
)
def test_blank_unsafe_or_long_key_is_rejected(key, code):
    found = checked(dataset(value={"type": "text"}), (key, "a"))
    assert [(reject.code, reject.column) for reject in found.rejects] == ([(code, "id")] if code else [])
    assert found.good.height == (code is None)


def test_first_wrong_column_is_the_reason_and_other_rows_stay():
    one = dataset(a={"type": "integer"}, b={"type": "integer", "required": True})
    found = checked(one, ("1", "x", ""), ("", "x", ""), ("3", "1", "2"), ("4", "", " "))
    assert [(reject.line, reject.column, reject.code) for reject in found.rejects] == [
        (2, "a", "NOT_A_NUMBER"),
        (3, "id", "BLANK"),
        (5, "b", "BLANK"),
    ]
    assert found.good.columns == [SOURCE, LINE, "id", "a", "b"]
    assert found.good.rows() == [(7, 4, "3", 1, 2)]


def test_source_defaults_to_zero_and_empty_frame_is_typed():
    one = dataset(a={"type": "integer"}, b={"type": "timestamp"})
    frame = frame_of([(7, ParsedRows([2], [("1", "x", None)]))], one).drop(SOURCE)
    assert check(frame, one, today=TODAY).rejects == [
        RejectedRow(2, "NOT_A_NUMBER", "a is not a number; write digits only, such as 42", "a", "x", 0)
    ]
    nothing = check(frame_of([], one), one, today=TODAY)
    assert nothing.good.dtypes == [pl.Int64, pl.Int64, pl.String, pl.Int64, pl.Datetime("us", "UTC")]
    assert not nothing.rejects


def test_rows_of_many_files_keep_source_and_line():
    one = dataset(a={"type": "text"})
    files = [(3, ParsedRows([2, 9], [("1", "x"), ("2", "y")])), (4, ParsedRows()), (5, ParsedRows([2], [("1", None)]))]
    assert check(frame_of(files, one), one, today=TODAY).good.rows() == [
        (3, 2, "1", "x"),
        (3, 9, "2", "y"),
        (5, 2, "1", None),
    ]


BLANK = " \t\n\v\f\r\x85\xa0\u2028\u3000\ufeff"
FIGURES = st.text("0123456789+-.eE_ ", max_size=12)
TEXTS = st.one_of(
    st.none(),
    FIGURES,
    st.text("0123456789-", min_size=8, max_size=10),
    st.from_regex(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}"
        r"(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2}(:[0-9]{2})?)?)?",
        fullmatch=True,
    ),
    st.dates().map(str),
    st.datetimes().map(str),
    st.integers(-(2**64), 2**64).map(str),
    st.floats().map(str),
    st.sampled_from(("true", "FALSE", "Yes", "no", "1", "0", "1.0", "7.00", "1e3", "T", "f", "inf", "-nan", "on")),
    st.text(max_size=6),
)


FIGURE = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


def whole(text):
    value = Fraction(text) if re.fullmatch(FIGURE, text) else Fraction(1, 2)
    if value.denominator != 1 or not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return int(value)


def real(text):
    if not re.fullmatch(FIGURE, text) or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def day(text):
    if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return date.fromisoformat(text)
    at = moment(text)
    if at.time() != time.min:
        raise ValueError(text)
    return at.date()


def moment(text):
    found = re.fullmatch(
        r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)"
        r"(?:(?<=:..:..)[.,]([0-9]{1,9}))? ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)?)?",
        text,
    )
    if not found:
        raise ValueError(text)
    day_, clock, part, zone = found.groups()
    value = datetime.combine(date.fromisoformat(day_), time.fromisoformat(clock or "00:00"), UTC)
    value += timedelta(microseconds=int(f"{part or ''}000000"[:6]))
    if zone and zone not in "Zz":
        hours, minutes, seconds = (int(zone.replace(":", "")[at : at + 2] or 0) for at in (1, 3, 5))
        if hours > 23 or minutes > 59 or seconds > 59:
            raise ValueError(text)
        value -= timedelta(hours=hours, minutes=minutes, seconds=seconds) * (1 if zone[0] == "+" else -1)
    return value


def milliseconds(text):
    value = whole(text)
    first, last = (datetime.combine(one, time.min, UTC).timestamp() * 1000 for one in (date.min, date.max))
    if not first <= value < last + DAY:
        raise ValueError(text)
    return value


def truth(text):
    words = {"true": True, "t": True, "yes": True, "y": True, "false": False, "f": False, "no": False, "n": False}
    return words[text.lower()] if text.lower() in words else {0: False, 1: True}[whole(text)]


MODEL = {
    "text": str,
    "integer": whole,
    "number": real,
    "boolean": truth,
    "date": day,
    "timestamp": moment,
    "milliseconds": milliseconds,
}


def modelled(kind, text, *, required):
    text = (text or "").strip(
        BLANK + "\u1680\u180e\u2029\u202f\u205f\u2060\u200b" + "".join(map(chr, range(0x2000, 0x200B)))
    )
    if not text or (kind != "text" and re.fullmatch("[+-]?nan", text, re.IGNORECASE)):
        return not required, None
    try:
        return "\0" not in text, MODEL[kind](text)
    except (ValueError, KeyError, OverflowError):
        return False, None


def unsafe(text):
    return {unicodedata.category(char) for char in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@settings(max_examples=150)
@given(st.sampled_from(sorted(MODEL)), st.booleans(), st.lists(TEXTS, min_size=1, max_size=20))
def test_column_checks_agree_with_value_model(kind, required, texts):
    found = checked(
        dataset(value={"type": kind, "required": required}), *((f"{at}", text) for at, text in enumerate(texts))
    )
    expected = [modelled(kind, text, required=required) for text in texts]
    assert found.good["value"].to_list() == [value for fits, value in expected if fits]
    assert found.good["id"].to_list() == [f"{at}" for at, (fits, _) in enumerate(expected) if fits]
    assert [reject.line for reject in found.rejects] == [at + 2 for at, (fits, _) in enumerate(expected) if not fits]
    assert all(len(reject.value) <= 200 and not unsafe(reject.value) for reject in found.rejects)


LATE = {"type": "milliseconds", "min": date(1980, 1, 1), "max": "today"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("473385600", "SECONDS"),
        ("473385600000", 473_385_600_000),
        ("-473385600", "OUT_OF_RANGE"),
        ("1", "OUT_OF_RANGE"),
    ],
)
def test_seconds_are_detected_only_if_out_of_range_as_milliseconds(text, value):
    assert value_of(text, **LATE) == value


def test_seconds_reason_gives_milliseconds():
    (reject,) = checked(dataset(birth=LATE), ("1", "473385600")).rejects
    assert reject.reason == "birth looks like seconds; write milliseconds, 473385600000"


WIDE = dataset(first={"type": "integer"}, second={"type": "date", "required": True}, third={"type": "text"})


def test_all_wrong_cells_are_reported_and_row_counts_once():
    found = checked(WIDE, ("1", "x", "soon", "a"), ("2", "3", "2000-01-01", "b"), (None, "y", None, "c"))
    assert found.good.height == 1
    first, last = found.rejects
    assert [(one.line, one.column, one.code) for one in (first, *first.more)] == [
        (2, "first", "NOT_A_NUMBER"),
        (2, "second", "NOT_A_DATE"),
    ]
    assert [(one.line, one.column, one.code) for one in (last, *last.more)] == [
        (4, "id", "BLANK"),
        (4, "first", "NOT_A_NUMBER"),
        (4, "second", "BLANK"),
    ]
    assert {one.source for reject in found.rejects for one in (reject, *reject.more)} == {7}


def test_excess_wrong_cells_are_only_named():
    many = dataset(**{f"c{number}": {"type": "integer"} for number in range(500)})
    (reject,) = checked(many, ("1", *["x"] * 500)).rejects
    every = (reject, *reject.more)
    assert len(every) == MAX_WRONG_CELLS + 1
    assert [one.column for one in every[:-1]] == [f"c{number}" for number in range(MAX_WRONG_CELLS)]
    assert every[-1].code == "MORE_CELLS"
    assert every[-1].reason.startswith(f"{500 - MAX_WRONG_CELLS} more cells of the row are wrong: c20, c21")
    assert len(every[-1].reason) < 400


@pytest.mark.parametrize("name", ["first", "typed", "literal", "len", "index", "column", "row", "id_typed"])
def test_column_may_have_internal_frame_column_name(name):
    found = checked(
        dataset(**{name: {"type": "integer"}, "other": {"type": "date"}}), ("1", "x", "y"), ("2", "1", None)
    )
    assert found.good[name].to_list() == [1]
    (reject,) = found.rejects
    assert [one.column for one in (reject, *reject.more)] == [name, "other"]
