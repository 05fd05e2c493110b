"""Whether and when to retry an item whose handler failed."""

import pytest

from shared.errors import Rejected
from shared.work import RetryPolicy

POLICY = RetryPolicy(max_attempts=4, wait_initial=1.0, wait_max=3.0, max_claims=10)


def test_rejected_data_is_not_retried():
    assert POLICY.retry_in(Rejected("BAD", "no such column"), attempt=1) is None


def test_waits_double_up_to_the_cap_and_end_with_the_last_attempt():
    waits = [POLICY.retry_in(ValueError("odd"), attempt) for attempt in range(1, 6)]
    assert waits == [1.0, 2.0, 3.0, None, None]


@pytest.mark.parametrize(("attempt", "exhausted"), [(1, False), (10, False), (11, True)])
def test_attempts_are_exhausted_past_max_claims(attempt, exhausted):
    assert POLICY.attempts_exhausted(attempt) is exhausted
