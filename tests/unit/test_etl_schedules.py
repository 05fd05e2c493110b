"""Due times of loads."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from services.etl.core.schedules import Interval
from services.etl.settings import EtlSettings

NOW = datetime(2026, 3, 1, 12, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("25m", (12, 10, 0)),
        ("90s", (12, 3, 0)),
        ("90", (12, 3, 0)),
        ("2h", (14, 0, 0)),
        ("0.5h", (12, 30, 0)),
        (" 1 m ", (12, 2, 0)),
        ("*/10 * * * *", (12, 10, 0)),
        ("5 14 * * *", (14, 5, 0)),
    ],
)
def test_due_times_are_the_same_for_all_processes(text, due):
    assert Interval.parse(text).after(NOW) == datetime(2026, 3, 1, *due, tzinfo=UTC)


def test_due_time_is_after_now():
    at = datetime(2026, 3, 1, 12, 25, tzinfo=UTC)
    assert Interval.parse("5m").after(at) == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert Interval.parse("*/25 * * * *").after(at) == datetime(2026, 3, 1, 12, 50, tzinfo=UTC)


@pytest.mark.parametrize("text", ["0", "0m", "0s"])
def test_zero_interval_is_never_due(text):
    assert Interval.parse(text).after(NOW) is None


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5 weeks", "61 * * * *", "* * *", "0 0 31 2 *", "nan", "1e3"])
def test_invalid_interval_is_rejected_with_hint(text):
    with pytest.raises(ValidationError, match=r"25m, cron text such as"):
        EtlSettings(etl_interval=text)
