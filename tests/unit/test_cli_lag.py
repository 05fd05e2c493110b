from services.cli.core.lag import unsettled

STARTS = {("t", 0): 0, ("t", 1): 100}
ENDS = {("t", 0): 10, ("t", 1): 150}


def test_settled_letters_do_not_wait():
    assert unsettled([("t", 0, 1), ("t", 0, 1), ("t", 1, 149)], STARTS, ENDS) == {"t": 58}


def test_letters_that_are_no_longer_kept_do_not_count():
    assert unsettled([("t", 1, 5), ("u", 0, 0), ("t", 1, 150)], STARTS, ENDS) == {"t": 60}
