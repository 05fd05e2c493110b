from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.address import Address, parse, parse_object, relative_name, require_valid_key
from services.cli.core.usage import UsageError
from shared.errors import Rejected


@pytest.mark.parametrize("key", ["a.txt", "", "a//b", "/x", "../x", "a b+c%2B", "s3://nested/key", "ü/", "?#"])
def test_parse_keeps_the_key_unchanged(key):
    assert parse(f"s3://inbox/{key}") == Address("inbox", key)


@given(st.text())
def test_parse_reads_the_text_of_any_address(key):
    assert parse(str(Address("inbox", key))) == Address("inbox", key)


def test_parse_accepts_a_bucket_without_a_slash():
    assert parse("s3://inbox") == Address("inbox", "")


@pytest.mark.parametrize("text", ["inbox/a", "s3:/inbox/a", "s3://", "s3:///a", "", "http://inbox/a"])
def test_parse_rejects_other_forms(text):
    with pytest.raises(UsageError, match="write s3://bucket/key"):
        parse(text)


def test_parse_object_requires_a_key():
    with pytest.raises(UsageError, match="add the object's key"):
        parse_object("s3://inbox/")


@pytest.mark.parametrize(("prefix", "key"), [("", "a"), ("x", "x/a"), ("x/", "x/a"), ("x/y", "x/y/a")])
def test_join_treats_the_key_as_a_folder(prefix, key):
    assert Address("inbox", prefix).join("a").key == key


@pytest.mark.parametrize("key", ["a\nb", "a\x00", "a\x1b[2J", "a\u202egpj.exe", "a\u2028b", "\udcff"])
def test_unprintable_key_is_rejected_with_a_printable_message(key):
    with pytest.raises(Rejected) as rejected:
        require_valid_key(Address("inbox", key))
    assert rejected.value.code == "KEY_UNSAFE"
    assert str(rejected.value).isprintable()


@pytest.mark.parametrize("key", ["x__XLDIR__", "x__XLDIR__/y", "__XLDIR__", "a/__XLDIR__", "/a", "//a"])
def test_key_that_minio_would_alter_is_rejected(key):
    with pytest.raises(Rejected, match="MinIO") as rejected:
        require_valid_key(Address("inbox", key))
    assert rejected.value.code == "KEY_UNSAFE"


@pytest.mark.parametrize(
    "key", ["-rf", "$(id)", ";id", "x__XLDIR__y", "x__xldir__", "'\"", "é", "e\u0301", "👩\u200d🔬.png", "a" * 1024]
)
def test_odd_but_valid_keys_are_accepted(key):
    assert require_valid_key(Address("inbox", key)).key == key


def test_key_over_1024_bytes_is_rejected():
    with pytest.raises(Rejected, match="over 1024 bytes"):
        require_valid_key(Address("inbox", "ü" * 513))


@pytest.mark.parametrize(
    ("source", "file", "name"),
    [
        ("a.txt", "a.txt", "a.txt"),
        ("deep/a.txt", "deep/a.txt", "a.txt"),
        ("photos", "photos/x/a.png", "photos/x/a.png"),
        ("up/photos", "up/photos/x/a.png", "photos/x/a.png"),
        ("photos/", "photos/x/a.png", "x/a.png"),
        (".", "x/a.png", "x/a.png"),
        ("..", "../x/a.png", "x/a.png"),
    ],
)
def test_relative_name_is_that_of_cp(source, file, name):
    assert relative_name(source, Path(file)) == name
