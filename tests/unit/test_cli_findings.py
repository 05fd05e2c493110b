from datetime import UTC, datetime, timedelta

from services.cli.core.findings import buckets, disk, skew, topics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(milliseconds=20)


def test_missing_and_small_topics_are_named_with_the_mend():
    finding = topics({"a": 6, "b": 6, "c": 1}, {"b": 1, "c": 4})
    assert not finding.ok
    assert finding.detail == "missing a; too few partitions in b"
    assert finding.document()["fix"] == "penstock doctor --fix"


def test_what_is_well_needs_no_mend():
    assert topics({"a": 6}, {"a": 12}).document()["fix"] is None
    assert buckets(["inbox"], ["inbox", "mine"]).ok
    assert not buckets(["inbox"], []).ok


def test_clocks_within_the_answers_own_time_are_together():
    assert skew("S3", NOW - timedelta(milliseconds=900), NOW, LATER, resolution=1.0).detail == "together with ours"
    assert skew("S3", NOW + timedelta(seconds=6), NOW, LATER).ok is False
    assert skew("S3", NOW - timedelta(hours=1), NOW, LATER).ok is False


def test_a_disk_is_full_before_it_is():
    assert disk("/", 10 << 30, 100 << 30).ok
    assert not disk("/", 1 << 29, 1 << 30).ok
    assert not disk("/", 2 << 30, 1 << 40).ok
