from datetime import UTC, datetime, timedelta

from services.cli.core.findings import buckets, disk, skew, topics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(milliseconds=20)


def test_missing_and_small_topics_are_named_with_the_fix():
    finding = topics({"a": 6, "b": 6, "c": 1}, {"b": 1, "c": 4})
    assert not finding.ok
    assert finding.detail == "missing a; too few partitions in b"
    assert finding.document()["fix"] == "penstock doctor --fix"


def test_passed_check_has_no_fix():
    assert topics({"a": 6}, {"a": 12}).document()["fix"] is None
    assert buckets(["inbox"], ["inbox", "mine"]).ok
    assert not buckets(["inbox"], []).ok


def test_clock_within_the_time_of_the_request_has_no_skew():
    assert skew("S3", NOW - timedelta(milliseconds=900), NOW, LATER, resolution=1.0).detail == "same time as ours"
    assert skew("S3", NOW + timedelta(seconds=6), NOW, LATER).ok is False
    assert skew("S3", NOW - timedelta(hours=1), NOW, LATER).ok is False


def test_disk_needs_a_gibibyte_and_five_percent():
    assert disk("/", 10 << 30, 100 << 30).ok
    assert not disk("/", 1 << 29, 1 << 30).ok
    assert not disk("/", 2 << 30, 1 << 40).ok
