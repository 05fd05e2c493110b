"""Progress reports of full loads."""

import pytest

from services.etl.core import progress


def test_listing_reports_counts_without_share():
    assert progress.listing(1, 0)["message"] == "1 object listed, 0 to be read"
    assert progress.listing(12_000, 1_500) == {
        "listed": 12_000,
        "differing": 1_500,
        "message": "12,000 objects listed, 1,500 to be read",
    }


def test_reading_reports_share_rate_and_remaining_time():
    assert progress.reading(9_000, 8_000, share=0.25, rate=200, eta_seconds=30.0) == {
        "listed": 9_000,
        "differing": 8_000,
        "done": 0.25,
        "objects_per_second": 200,
        "eta_seconds": 30.0,
        "message": "25% of 8,000 objects read, 200 a second, 30 s left",
    }


def test_remaining_time_is_unknown_before_first_object():
    report = progress.reading(2, 2, share=0.0, rate=0, eta_seconds=None)
    assert (report["eta_seconds"], report["message"]) == (None, "0% of 2 objects read, 0 a second")


def test_taken_over_load_reports_only_share():
    assert progress.reading(0, 0, share=0.5, rate=0, eta_seconds=1.0)["message"] == "50% read, 1 s left"


@pytest.mark.parametrize(
    ("report", "share"), [({}, 0.0), ({"bytes": 3, "size": 0}, 0.0), ({"bytes": 3, "size": 12}, 0.25)]
)
def test_fraction_of_large_file_is_that_of_its_bytes(report, share):
    assert progress.fraction_read(report) == share
