"""Names and contents of output files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.etl.adapters.spreadsheet_csv import write_spreadsheet_csv
from services.etl.core.datasets import Datasets
from services.etl.core.exporting import output_key, rejects_file, rejects_key, table_query

USERS = Datasets.parse(
    """
    [users]
    bucket = "src-data"
    key = "user_id"
    output = "output"
    [users.columns]
    first_name = { type = "text" }
    birthts = { type = "milliseconds" }
    """
).by_name["users"]


def test_output_key_follows_dataset():
    assert [output_key(USERS, ending) for ending in ("csv", "parquet")] == ["output.csv", "output.parquet"]


def test_table_query_orders_by_key():
    question = table_query(USERS)
    assert question.startswith('SELECT stored."user_id", stored."first_name", stored."birthts", stored."img_path", ')
    assert question.endswith(' FROM api."users" AS stored ORDER BY stored."user_id"')


@pytest.mark.parametrize("key", ["a.csv", "a/b.csv", "a b+é.csv.gz", "ü" * 120])
def test_rejects_key_follows_file_key(key):
    assert rejects_key("users", key) == f"rejects/users/{key}.csv"


@pytest.mark.parametrize("key", ["a.csv/b", "a.csv/", "ü" * 127, "/".join(["x" * 205] * 5)])
def test_rejects_key_of_clashing_or_long_key_is_digest(key):
    name = rejects_key("users", key)
    assert name.count("/") == 2
    assert len(name) == len("rejects/users/.csv") + 64


@given(
    st.lists(
        st.text(st.sampled_from("ab/.csv"), min_size=1, max_size=12).filter(lambda key: key[0] != "/"), unique=True
    )
)
def test_rejects_keys_never_clash(keys):
    names = {rejects_key("users", key) for key in keys}
    assert len(names) == len(keys)
    assert not [(one, other) for one in names for other in names if other.startswith(f"{one}/")]


def test_rejects_file_is_csv_with_header():
    assert rejects_file([(3, "a", 'x,"y"\n', "CODE", "why")]) == (
        b'row,column,value,code,reason\n3,a,"x,""y""\n",CODE,why\n'
    )


def test_spreadsheet_csv_escapes_text_cells_only(tmp_path):
    values, cells = tmp_path / "values.csv", tmp_path / "cells.csv"
    values.write_bytes(
        b"user_id,first_name,birthts,img_path,img_type,img_width,img_height,img_sha256\n"
        b'=1,"=a,""b""\n",-5,src-data/1.png,image/png,1,1,ab\n'
        b'2,"\rx",,"",,,,\n'
        b"3,-,1,,,,,\n"
        b'4,"",1,"",,,,\n'
        b"5,,1,,,,,\n"
    )
    write_spreadsheet_csv(values, cells, USERS)
    assert cells.read_bytes() == (
        b"user_id,first_name,birthts,img_path\n"
        b'\'=1,"\'=a,""b""\n",-5,src-data/1.png\n'
        b'2,"\'\rx",,\n'
        b"3,'-,1,\n"
        b'4,"",1,\n'
        b"5,,1,\n"
    )


def test_spreadsheet_csv_digest_follows_content(tmp_path):
    values = tmp_path / "values.csv"
    head = b"user_id,first_name,birthts,img_path,img_type,img_width,img_height,img_sha256\n"
    digests = set()
    for body in (b"1,a,1,,,,,\n", b"1,a,1,,,,,ab\n", b"1,b,1,,,,,\n"):
        values.write_bytes(head + body)
        digests.add(write_spreadsheet_csv(values, tmp_path / "cells.csv", USERS))
    assert len(digests) == 2
