from shared.lags import lag_by_topic

STARTS = {("t", 0): 0, ("t", 1): 100}
ENDS = {("t", 0): 10, ("t", 1): 150}


def test_lag_is_what_is_left_to_read():
    assert lag_by_topic({("t", 0): 4, ("t", 1): 150}, STARTS, ENDS) == {"t": 6}


def test_without_a_commit_everything_that_is_kept_is_left():
    assert lag_by_topic({}, STARTS, ENDS) == {"t": 60}


def test_what_retention_removed_cannot_be_read_any_more():
    assert lag_by_topic({("t", 0): 10, ("t", 1): 3}, STARTS, ENDS) == {"t": 50}
