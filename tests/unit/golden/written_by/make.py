"""Writes the files beside this one, once, by programs that no test installs.

    uv run --no-project --with pandas --with pyarrow --with duckdb python tests/unit/golden/written_by/make.py

All hold the rows of `tests/unit/test_etl_round_trip.py`, each as its program writes them when nothing is said.
"""

import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
MOMENT = datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
COLUMNS = {
    "sample_id": ["a", "b", "c"],
    "label": ['Ünï, "q"\r\nline', "=1+1", None],
    "qty": [7, -12, None],
    "depth": [1.5, 1e300, None],
    "taken_on": [date(2024, 2, 29), date(1900, 1, 1), None],
    "at": [MOMENT, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), None],
    "ms": [473385600000, -86400000, None],
    "ok": [True, False, None],
}
TYPES = {
    "sample_id": pa.string(),
    "label": pa.string(),
    "qty": pa.int64(),
    "depth": pa.float64(),
    "taken_on": pa.date32(),
    "at": pa.timestamp("us", "UTC"),
    "ms": pa.int64(),
    "ok": pa.bool_(),
}


def table(**types: pa.DataType) -> pa.Table:
    """Make the rows, some columns of other types than usual."""
    expected = TYPES | types
    return pa.table({name: pa.array(values, expected[name]) for name, values in COLUMNS.items()})


def decimals(scale: int) -> pa.Array:
    """Make the column `qty` of decimals."""
    return pa.array([None if one is None else Decimal(one) for one in COLUMNS["qty"]], pa.decimal128(38, scale))


def write_pandas() -> None:
    """Whole numbers beside missing ones become floats; days become moments at midnight in Parquet."""
    frame = pd.DataFrame(COLUMNS)
    frame["taken_on"] = pd.to_datetime(frame["taken_on"])
    frame["at"] = pd.to_datetime(frame["at"])
    frame.to_csv(HERE / "pandas.csv", index=False, lineterminator="\n")
    frame.to_parquet(HERE / "pandas.parquet", index=False)
    frame.to_json(HERE / "pandas.jsonl", orient="records", lines=True, date_format="iso", date_unit="us")


def write_duckdb() -> None:
    """As COPY writes it."""
    duckdb.sql("SET TimeZone = 'UTC'")
    rows = table()  # noqa: F841 - DuckDB finds it by its name
    for ending in ("csv", "parquet"):
        duckdb.sql(f"COPY (SELECT * FROM rows) TO '{HERE}/duckdb.{ending}'")  # noqa: S608 - a fixed name


def write_spark() -> None:
    """INT96, decimals in bytes of a fixed length, no schema of Arrow's."""
    rows = table(at=pa.timestamp("us"))
    rows = rows.set_column(2, "qty", decimals(10))
    path = HERE / "spark.parquet"
    pq.write_table(rows, path, use_deprecated_int96_timestamps=True, store_schema=False, version="1.0")


def write_impala() -> None:
    """Strings are bytes that nothing marks as text."""
    rows = table(sample_id=pa.binary(), label=pa.binary())
    pq.write_table(rows, HERE / "impala.parquet", store_schema=False, use_dictionary=True)


def write_units() -> None:
    """The same moments and days in other units, and numbers in other types."""
    rows = table(at=pa.timestamp("ns", "Europe/Paris"), taken_on=pa.date64(), qty=pa.int8(), depth=pa.float64())
    pq.write_table(rows, HERE / "units.parquet", version="2.6", store_schema=False)
    rows = table(at=pa.timestamp("ms", "UTC"), label=pa.dictionary(pa.int32(), pa.string()), qty=pa.float64())
    pq.write_table(rows, HERE / "dictionaries.parquet", version="2.6")


def write_odd() -> None:
    """A row of columns that a table has no type for, or that are wider than any."""
    rows = pa.table(
        {
            "sample_id": ["a"],
            "took": pa.array([timedelta(hours=25)], pa.duration("us")),
            "at_time": pa.array([time(12, 30)]),
            "many": pa.array([[1, 2]]),
            "pairs": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "wide": pa.array([Decimal("1234567890123456789012345678901234567890.5")], pa.decimal256(60, 2)),
            "raw": pa.array([uuid.UUID(int=2**128 - 1).bytes], pa.binary(16)),
            "large": pa.array([2**64 - 1], pa.uint64()),
            "nothing": pa.nulls(1),
        }
    )
    pq.write_table(rows, HERE / "odd.parquet")
    ends = [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)]  # noqa: DTZ001 - as Spark has them
    rows = pa.table({"sample_id": ["a", "b"], "at": pa.array(ends, pa.timestamp("us"))})
    pq.write_table(rows, HERE / "int96_ends.parquet", use_deprecated_int96_timestamps=True, store_schema=False)


if __name__ == "__main__":
    for write in (write_pandas, write_duckdb, write_spark, write_impala, write_units, write_odd):
        write()
