from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.address import Address, checked, name_in, parse, parse_object
from services.cli.core.usage import WrongUsage
from shared.errors import Rejected


@pytest.mark.parametrize("key", ["a.txt", "", "a//b", "/x", "../x", "a b+c%2B", "s3://nested/key", "ü/", "?#"])
def test_the_key_is_everything_behind_the_bucket_and_stays_as_it_is(key):
    assert parse(f"s3://inbox/{key}") == Address("inbox", key)


@given(st.text())
def test_what_is_written_is_read_back(key):
    assert parse(str(Address("inbox", key))) == Address("inbox", key)


def test_a_bucket_needs_no_slash():
    assert parse("s3://inbox") == Address("inbox", "")


@pytest.mark.parametrize("text", ["inbox/a", "s3:/inbox/a", "s3://", "s3:///a", "", "http://inbox/a"])
def test_anything_else_is_wrong_usage(text):
    with pytest.raises(WrongUsage, match="write s3://bucket/key"):
        parse(text)


def test_an_object_needs_a_key():
    with pytest.raises(WrongUsage, match="add the object's key"):
        parse_object("s3://inbox/")


@pytest.mark.parametrize(("prefix", "key"), [("", "a"), ("x", "x/a"), ("x/", "x/a"), ("x/y", "x/y/a")])
def test_a_prefix_is_a_folder(prefix, key):
    assert Address("inbox", prefix).below("a").key == key


@pytest.mark.parametrize("key", ["a\nb", "a\x00", "a\x1b[2J", "a\u202egpj.exe", "a\u2028b", "\udcff"])
def test_keys_that_could_fool_a_terminal_are_refused(key):
    with pytest.raises(Rejected) as refusal:
        checked(Address("inbox", key))
    assert refusal.value.code == "KEY_UNSAFE"
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("key", ["x__XLDIR__", "x__XLDIR__/y", "__XLDIR__", "a/__XLDIR__", "/a", "//a"])
def test_keys_that_the_store_would_alter_are_refused(key):
    with pytest.raises(Rejected, match="MinIO") as refusal:
        checked(Address("inbox", key))
    assert refusal.value.code == "KEY_UNSAFE"


@pytest.mark.parametrize(
    "key", ["-rf", "$(id)", ";id", "x__XLDIR__y", "x__xldir__", "'\"", "é", "e\u0301", "👩\u200d🔬.png", "a" * 1024]
)
def test_odd_but_honest_keys_pass(key):
    assert checked(Address("inbox", key)).key == key


def test_a_key_over_1024_bytes_is_refused():
    with pytest.raises(Rejected, match="over 1024 bytes"):
        checked(Address("inbox", "ü" * 513))


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
def test_names_are_those_of_cp(source, file, name):
    assert name_in(source, Path(file)) == name
