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
def test_size_text_uses_the_fitting_unit(size, text):
    assert size_text(size) == text


def test_long_digest_is_shortened_and_a_short_one_is_not():
    assert short("0" * 32) == "0" * 16 + "…"
    assert short("0" * 8) == "0" * 8
    assert short(None) == ""


def test_time_tag_renders_utc():
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


def test_result_without_upload_is_invalid_id():
    result = UploadResult("x", None)
    assert (result.status, result.is_done, result.percent, result.name) == ("INVALID_ID", True, None, "")


def test_result_looks_different_when_its_state_or_its_progress_does():
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


def test_recent_object_shows_the_preferred_digest():
    made = RecentObject("inbox", "lab/2026/a.csv", AT, "stored", 1, "succeeded", {"md5": "1", "sha256": "2"})
    assert made.digest == ("sha256", "2")
    assert (made.name, made.folder) == ("a.csv", "inbox/lab/2026")
    assert RecentObject("inbox", "a", AT, digests={"md5": "1"}).digest == ("md5", "1")
    assert RecentObject("inbox", "a", AT).digest == ("", "")
    assert RecentObject("inbox", "a", AT).folder == "inbox"


def test_recent_object_status_is_pending_or_removed():
    assert RecentObject("inbox", "a", AT, "stored").shown_status == "pending"
    assert RecentObject("inbox", "a", AT, "removed", status="gone").shown_status == "removed"
