"""How values read on a page."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.ingress.adapters.templates import time_tag
from services.ingress.core.display import short, size_text
from services.ingress.core.navigation import NavigationEntry, ordered
from services.ingress.core.result_page import RecentObject, UploadResult
from services.ingress.core.upload_status import Upload

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, ""),
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (70 << 20, "70.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (3 << 60, "3,072.0 PiB"),
    ],
)
def test_bytes_are_told_in_the_unit_that_fits(size, text):
    assert size_text(size) == text


def test_a_long_digest_is_shortened_and_a_short_one_is_not():
    assert short("0" * 32) == "0" * 16 + "…"
    assert short("0" * 8) == "0" * 8
    assert short(None) == ""


def test_a_time_is_told_in_utc():
    tag = '<time datetime="2026-01-02T03:04:05Z">2026-01-02 03:04:05 UTC</time>'
    assert time_tag(AT.astimezone(timezone(timedelta(hours=9)))) == tag
    assert time_tag(None) == ""


def test_links_are_shown_by_rank_then_by_name():
    entries = [
        NavigationEntry("b", "/b", "x", 1),
        NavigationEntry("c", "/c", "x", 0),
        NavigationEntry("a", "/a", "x", 1),
    ]
    assert [one.label for one in ordered(entries)] == ["c", "a", "b"]


def test_what_has_no_upload_is_an_invalid_id():
    result = UploadResult("x", None)
    assert (result.status, result.is_done, result.percent, result.name) == ("INVALID_ID", True, None, "")


def test_a_result_looks_different_when_its_state_or_its_progress_does():
    def fingerprint(**known):
        return UploadResult(
            "x", Upload("x", "inbox", "uploads/x/a", etag="e", hashed_etag="e", state="stored", **known)
        ).fingerprint

    marks = [
        fingerprint(status="pending"),
        fingerprint(status="running"),
        fingerprint(status="running", progress={"bytes": 1, "size": 4}),
        fingerprint(status="running", progress={"bytes": 2, "size": 4}),
        fingerprint(status="succeeded"),
    ]
    assert len(set(marks)) == len(marks)


def test_of_an_object_the_digest_that_tells_most_is_shown():
    made = RecentObject("inbox", "lab/2026/a.csv", AT, "stored", 1, "succeeded", {"md5": "1", "sha256": "2"})
    assert made.digest == ("sha256", "2")
    assert (made.name, made.folder) == ("a.csv", "inbox/lab/2026")
    assert RecentObject("inbox", "a", AT, digests={"md5": "1"}).digest == ("md5", "1")
    assert RecentObject("inbox", "a", AT).digest == ("", "")
    assert RecentObject("inbox", "a", AT).folder == "inbox"


def test_what_nobody_has_read_yet_is_pending_and_what_is_gone_is_removed():
    assert RecentObject("inbox", "a", AT, "stored").shown_status == "pending"
    assert RecentObject("inbox", "a", AT, "removed", status="gone").shown_status == "removed"
