"""CSV from Postgres is converted to typed Parquet with the same values."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from shared.parquet import CHUNK_BYTES, csv_to_parquet

TYPES = {
    "key": "text",
    "whole": "integer",
    "ms": "milliseconds",
    "number": "number",
    "yes": "boolean",
    "day": "date",
    "at": "timestamp",
}
SCHEMA = {
    "key": pl.String,
    "whole": pl.Int64,
    "ms": pl.Int64,
    "number": pl.Float64,
    "yes": pl.Boolean,
    "day": pl.Date,
    "at": pl.Datetime("us", "UTC"),
}


def converted(folder, text, types):
    source, target = folder / "a.csv", folder / "a.parquet"
    source.write_text(text, "utf-8", newline="")
    csv_to_parquet(source, target, types)
    return pl.read_parquet(target)


def test_every_column_type_is_converted(tmp_path):
    text = (
        "key,whole,ms,number,yes,day,at\n"
        '"",-5,951782400000,1.5,t,2020-02-29,2020-01-02 03:04:05+05:30\n'
        "a,9223372036854775807,-1,-Infinity,f,0001-01-01,1969-12-31 23:59:59.999999+00\n"
        ",,,,,,\n"
    )
    frame = converted(tmp_path, text, TYPES)
    assert frame.schema == pl.Schema(SCHEMA)
    assert frame.rows() == [
        ("", -5, 951782400000, 1.5, True, date(2020, 2, 29), datetime(2020, 1, 1, 21, 34, 5, tzinfo=UTC)),
        (
            "a",
            2**63 - 1,
            -1,
            float("-inf"),
            False,
            date(1, 1, 1),
            datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ),
        (None,) * 7,
    ]


def test_a_file_without_rows_has_its_columns(tmp_path):
    frame = converted(tmp_path, ",".join(TYPES) + "\n", TYPES)
    assert frame.is_empty()
    assert frame.schema == pl.Schema(SCHEMA)


@pytest.mark.parametrize("body", ["z" * (3 * CHUNK_BYTES), "\n" * (3 * CHUNK_BYTES)], ids=["long", "many lines"])
def test_a_row_longer_than_what_is_read_at_a_time_is_one_row(tmp_path, body):
    bodies = [body if number == 500 else 'a, ""b""' for number in range(1000)]
    text = "".join(f'{number},"{one}"\n' for number, one in enumerate(bodies))
    frame = converted(tmp_path, "key,name\n" + text, {"key": "text", "name": "text"})
    assert frame.height == 1000
    assert frame["name"][500] == body
    assert set(frame["name"].head(500)) == {'a, "b"'}
    assert frame["key"].to_list() == [str(number) for number in range(1000)]


def test_text_of_another_type_raises_an_error(tmp_path):
    with pytest.raises(pl.exceptions.PolarsError):
        converted(tmp_path, "n\nx\n", {"n": "integer"})
