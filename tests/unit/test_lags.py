from shared.lags import lag_by_topic

STARTS = {("t", 0): 0, ("t", 1): 100}
ENDS = {("t", 0): 10, ("t", 1): 150}


def test_lag_is_end_offset_minus_committed_offset():
    assert lag_by_topic({("t", 0): 4, ("t", 1): 150}, STARTS, ENDS) == {"t": 6}


def test_lag_without_commit_counts_all_retained_records():
    assert lag_by_topic({}, STARTS, ENDS) == {"t": 60}


def test_lag_excludes_records_removed_by_retention():
    assert lag_by_topic({("t", 0): 10, ("t", 1): 3}, STARTS, ENDS) == {"t": 50}
