from services.cli.core.lag import count_unresolved

STARTS = {("t", 0): 0, ("t", 1): 100}
ENDS = {("t", 0): 10, ("t", 1): 150}


def test_resolved_dead_letters_are_not_counted():
    assert count_unresolved([("t", 0, 1), ("t", 0, 1), ("t", 1, 149)], STARTS, ENDS) == {"t": 58}


def test_resolved_dead_letters_outside_the_retained_offsets_change_no_count():
    assert count_unresolved([("t", 1, 5), ("u", 0, 0), ("t", 1, 150)], STARTS, ENDS) == {"t": 60}
