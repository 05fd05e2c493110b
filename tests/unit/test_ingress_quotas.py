"""How many open uploads one token may have."""

import pytest

from services.ingress.core.problems import HttpProblem, status_of
from services.ingress.core.quotas import OpenUploadCounts


def test_one_upload_too_many_is_refused_and_one_that_ends_makes_room():
    uploads = OpenUploadCounts(2)
    for number in "12":
        uploads.begin(number, "a")
    with pytest.raises(HttpProblem, match="2 open uploads") as refused:
        uploads.begin("3", "a")
    assert (status_of(refused.value), refused.value.code) == (409, "QUOTA_USED_UP")
    uploads.begin("4", "b")
    uploads.end("1")
    uploads.begin("3", "a")
    assert uploads.known() == {"2", "3", "4"}


def test_uploads_of_other_processes_count_once_they_are_seen():
    uploads = OpenUploadCounts(2)
    for _ in range(3):
        uploads.note("1", "a")
    uploads.note("2", "a")
    assert uploads.unknown(["1", "2", "3"]) == ["3"]
    with pytest.raises(HttpProblem):
        uploads.begin("3", "a")
    for number in ("1", "1", "nothing"):
        uploads.end(number)
    uploads.begin("3", "a")


def test_tokens_without_uploads_are_forgotten():
    uploads = OpenUploadCounts()
    uploads.begin("1", "a")
    uploads.end("1")
    assert not uploads._counts
