"""Names and types of downloads."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.disposition import OPAQUE, attachment, safe_content_type, safe_disposition


@pytest.mark.parametrize(
    ("key", "header"),
    [
        ("files/a b.txt", "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"),
        ("naïve €.csv", "attachment; filename=\"na_ve _.csv\"; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.csv"),
        ('say "hi"\\%41', "attachment; filename=\"say _hi___41\"; filename*=UTF-8''say%20%22hi%22%5C%2541"),
        ("folder/", "attachment; filename=\"object\"; filename*=UTF-8''object"),
    ],
)
def test_file_name_is_sent_for_old_and_new_clients(key, header):
    assert attachment(key) == header


@given(st.text())
def test_no_name_leaves_its_header(key):
    header = attachment(key)
    assert re.fullmatch(r"attachment; filename=\"[^\"\\%]+\"; filename\*=UTF-8''[!-~]+", header)
    if not re.search(r"[\ud800-\udfff]", key) and not key.endswith("/") and key:
        assert unquote(header.rpartition("''")[2]) == key.rpartition("/")[2]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('attachment; filename="report.csv"', 'attachment; filename="report.csv"'),
        ("attachment; filename*=UTF-8''na%C3%AFve.csv", "attachment; filename*=UTF-8''na%C3%AFve.csv"),
        ('inline; filename="a b.pdf"', 'attachment; filename="a b.pdf"'),
        ('x-odd; filename="a.html"', 'attachment; filename="a.html"'),
        ("inline", attachment("a.csv")),
        ("attachment", attachment("a.csv")),
        ("", attachment("a.csv")),
        (None, attachment("a.csv")),
        ('attachment; filename="a', attachment("a.csv")),
        ("attachment; filename=a, inline", attachment("a.csv")),
        ('attachment; filename="a\r\nx: y"', attachment("a.csv")),
        (";inline", attachment("a.csv")),
    ],
)
def test_stored_disposition_becomes_an_attachment(said, expected):
    assert safe_disposition(said, "a.csv") == expected


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "image/png", "application/pdf", "video/mp4"])
def test_harmless_content_types_are_sent(kind):
    assert safe_content_type(kind) == kind


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/html",
        "image/svg+xml",
        "application/xml",
        "text/javascript",
        "text/plain\r\nx: y",
        "text/plain;x",
    ],
)
def test_all_others_are_bytes(kind):
    assert safe_content_type(kind) == OPAQUE
