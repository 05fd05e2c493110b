"""The dataset file: valid content, and which dataset claims an object."""

import json
import re
from pathlib import Path

import pytest

from services.catalogue import manifests
from services.etl.core.datasets import Datasets, InvalidDatasets, format_of, is_compressed, item_of
from shared.text import visible

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
def test_object_is_claimed_by_bucket_prefix_and_extension(bucket, key, kind):
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
def test_item_is_name_without_extension(key, item, format_, compressed):
    assert (item_of(key), format_of(key), is_compressed(key)) == (item, format_, compressed)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("[people]", "[objects]", "call the dataset something else"),
        ('key = "id"', 'key = "line"', "column line is added to every table"),
        ('key = "id"', 'key = "name"', "column name is the key"),
        ('key = "id"', 'key = "Id"', "key"),
        ('"text"', '"txt"', "columns.name.type"),
        ("max = 80", "max = 0", "min = 1 is above max = 0"),
        ("max = 80", "max = 2000-01-01", "the bounds of a column of type text are figures"),
        ("1900-01-01", "1900", "the bounds of a column of type milliseconds are days"),
        ('type = "number", min = 0.5', 'type = "boolean", min = 0', "of type boolean are none"),
        ('bucket = "in"', "", "bucket"),
        ('prefix = "a/"', 'prefix = "a/"\nborn = "name"', "not a column of type milliseconds"),
        ("[people]", "people", "is not TOML"),
        (ONE, "", "declares no dataset"),
        (ONE, "x = 1", "stands outside a section"),
    ],
)
def test_unusable_dataset_file_raises_with_section_and_reason(before, after, reason):
    text = ONE.replace(before, after).replace("[people.", "[objects." if "[objects]" in after else "[people.")
    with pytest.raises(InvalidDatasets, match=r"^datasets") as caught:
        Datasets.parse(text, reserved={"objects"})
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "output", "reason"),
    [("a/b/", "", "both claim in/a/b/"), ("", "", "both claim in/a/"), ("c/", "people", "both write people")],
)
def test_second_of_overlapping_datasets_is_refused(prefix, output, reason):
    other = ONE.replace("people", "others").replace('"a/"', f'"{prefix}"\noutput = "{output}"')
    datasets = Datasets.parse(ONE + other)
    assert list(datasets.by_name) == ["people"]
    assert reason in datasets.refused["others"]


COLUMNS = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "line", "source", "img_path"]
NAMES = ["Id", "ID", "größe", "first name", "1st", "_x", "x" * 42, "x" * 64, 'a"b', "a'b", "a.b", "a-b", "", " id"]
NAMES += ["id\n", "a\0b", "\u202eid", "\u0131d"]
SECTION = '[{0}]\nbucket = "bad"\nkey = {1}\n[{0}.columns]\n{2} = {{ type = "text" }}\n'
PLACES = [(place, name) for place in ("key", "column") for name in COLUMNS]
PLACES += [(place, name) for place in ("dataset", "key", "column") for name in NAMES]


@pytest.mark.parametrize(("place", "name"), PLACES)
def test_invalid_name_refuses_section_with_reason_and_fix(place, name):
    said = {"dataset": "t", "key": "k", "column": "c", place: name}
    bad = SECTION.format(*(json.dumps(said[one], ensure_ascii=False) for one in ("dataset", "key", "column")))
    datasets = Datasets.parse(bad + ONE, reserved={"objects"})
    assert list(datasets.by_name) == ["people"]
    (reason,) = datasets.refused.values()
    assert reason.startswith(f"datasets: [{visible(said['dataset'])}]")
    assert "call it something else" in reason or "such as " in reason
    assert reason.isprintable()


def test_uppercase_name_is_refused_beside_lowercase():
    two = ONE.replace("name =", 'Name = { type = "text" }\nname =')
    datasets = Datasets.parse(two + ONE.replace("people", "others").replace("a/", "b/"))
    assert list(datasets.by_name) == ["others"]
    assert "'Name' is not allowed: write lower-case letters" in datasets.refused["people"]
    assert "such as name" in datasets.refused["people"]


@pytest.mark.parametrize(
    "bad",
    [
        "x = 1\n",
        "[bad]\n",
        '[bad]\nbucket = "b"\nkey = "k"\n',
        '[objects]\nbucket = "b"\nkey = "k"\n[objects.columns.a]\ntype = "text"\n',
    ],
)
def test_bad_section_does_not_affect_others(bad):
    datasets = Datasets.parse(bad + ONE, reserved={"objects"})
    assert list(datasets.by_name) == ["people"]
    assert len(datasets.refused) == 1


def test_names_of_views_and_etl_tables_are_reserved():
    root = Path(__file__).parents[2]
    texts = [path.read_text("utf-8").lower() for one in ("services", "shared") for path in (root / one).rglob("*.sql")]
    views = {name for text in texts for name in re.findall(r"view api\.(\w+)", text)}
    tables = {name for text in texts for name in re.findall(r"create table etl\.(\w+)", text)}
    assert {"objects", "timeline", "work"} <= views
    for name in views | tables:
        with pytest.raises(InvalidDatasets, match="call the dataset something else"):
            Datasets.parse(ONE.replace("people", name), reserved=manifests().views)
