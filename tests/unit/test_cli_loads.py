from datetime import UTC, datetime, timedelta

import pytest

from services.cli.core.loads import age, describe_load

NOW = datetime(2026, 7, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=23), "23 h"),
        (timedelta(days=40), "40 d"),
    ],
)
def test_age_has_one_unit(elapsed, text):
    assert age(NOW - elapsed, NOW) == text


def test_age_of_none_is_a_dash():
    assert age(None, NOW) == "-"


def test_completed_load_is_described_by_its_counts():
    load = {"changed": 12345, "removed": 0, "rows": 1, "rejected": 2, "listed": 9}
    assert describe_load(load) == "changed 12,345   removed 0   rows 1   rejected 2"


def test_running_load_is_described_by_its_progress():
    load = {"changed": 0, "removed": 0, "rows": 0, "rejected": 0, "progress": {"message": "9 objects listed"}}
    assert describe_load(load) == "9 objects listed"
    assert describe_load({**load, "progress": None}) == "changed 0   removed 0   rows 0   rejected 0"
