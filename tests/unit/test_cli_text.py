import unicodedata
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.text import human_bytes, parse_duration, plural
from shared.text import visible


@given(st.text(alphabet=st.characters()))
def test_visible_escapes_all_unsafe_characters(text):
    shown = visible(text)
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in shown)


def test_visible_names_escaped_characters():
    assert visible("a\nb\x1b[2J\u202ec") == r"a\nb\x1b[2J\u202ec"


def test_visible_keeps_printable_text_and_cuts_long_text():
    assert visible("Grüße, 日本 👍 a b") == "Grüße, 日本 👍 a b"
    assert visible("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")]
)
def test_human_bytes(count, text):
    assert human_bytes(count) == text


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("1.5h", 5400)])
def test_parse_duration(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "10x", "-1s"])
def test_parse_duration_rejects_other_forms(text):
    with pytest.raises(ValueError, match="write 90s, 10m, 2h or 1d"):
        parse_duration(text)


def test_plural():
    assert plural(1, "object") == "1 object"
    assert plural(2000, "object") == "2,000 objects"
