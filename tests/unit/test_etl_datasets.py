"""The file of datasets: what it may say, and which objects are whose."""

import pytest

from services.etl.core.datasets import BadDatasets, Datasets, format_of, is_compressed, item_of

ONE = """
[people]
bucket = "in"
prefix = "a/"
key = "id"
images = ["PNG", "jpg"]
[people.columns]
name = { type = "text", min = 1, max = 80 }
born = { type = "milliseconds", min = 1900-01-01, max = "today" }
seen = { type = "timestamp", max = 2030-12-31 }
size = { type = "number", min = 0.5 }
"""


@pytest.mark.parametrize(
    ("bucket", "key", "kind"),
    [
        ("in", "a/1.csv", "rows"),
        ("in", "a/b/1.TSV.GZ", "rows"),
        ("in", "a/1.parquet", "rows"),
        ("in", "a/1.png", "image"),
        ("in", "a/1.JPG", "image"),
        ("in", "a/1.gif", None),
        ("in", "a/1.parquet.gz", None),
        ("in", "a/1.txt", None),
        ("in", "a/.csv", None),
        ("in", "a/csv", None),
        ("in", "b/1.csv", None),
        ("out", "a/1.csv", None),
    ],
)
def test_an_object_is_claimed_by_its_place_and_the_ending_of_its_name(bucket, key, kind):
    claim = Datasets.parse(ONE).claim(bucket, key)
    assert (claim and claim[1]) == kind


@pytest.mark.parametrize(
    ("key", "item", "format_", "compressed"),
    [
        ("a/1000.csv", "1000", "csv", False),
        ("1000.v2.CSV.gz", "1000.v2", "csv", True),
        ("1000.v2.png", "1000.v2", "", False),
        ("x.y/1000.ndjson", "1000", "jsonl", False),
        ("1000.tab", "1000", "tsv", False),
    ],
)
def test_the_item_of_a_name_is_all_before_its_last_ending(key, item, format_, compressed):
    assert (item_of(key), format_of(key), is_compressed(key)) == (item, format_, compressed)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("[people]", "[objects]", "call the dataset something else"),
        ('key = "id"', 'key = "line"', "column line is there anyway"),
        ('key = "id"', 'key = "name"', "column name is there anyway"),
        ('key = "id"', 'key = "Id"', "key"),
        ('"text"', '"txt"', "columns.name.type"),
        ("max = 80", "max = 0", "min = 1 is above max = 0"),
        ("max = 80", "max = 2000-01-01", "the bounds of a column of type text are figures"),
        ("1900-01-01", "1900", "the bounds of a column of type milliseconds are days"),
        ('type = "number", min = 0.5', 'type = "boolean", min = 0', "of type boolean are none"),
        ('bucket = "in"', "", "bucket"),
        ('prefix = "a/"', 'prefix = "a/"\nborn = "name"', "no column of type milliseconds"),
        ("[people]", "people", "is no TOML"),
        (ONE, "", "declares no dataset"),
        (ONE, "x = 1", "stands outside a section"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(before, after, reason):
    text = ONE.replace(before, after).replace("[people.", "[objects." if "[objects]" in after else "[people.")
    with pytest.raises(BadDatasets, match=r"^datasets") as caught:
        Datasets.parse(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "output", "reason"),
    [("a/b/", "", "both claim in/a/b/"), ("", "", "both claim in/a/"), ("c/", "people", "both write people")],
)
def test_two_datasets_claim_no_object_and_write_no_file_together(prefix, output, reason):
    other = ONE.replace("people", "others").replace('"a/"', f'"{prefix}"\noutput = "{output}"')
    with pytest.raises(BadDatasets) as caught:
        Datasets.parse(ONE + other)
    assert reason in str(caught.value)
